"""The paper's table: published figures, and those that runs measured."""
