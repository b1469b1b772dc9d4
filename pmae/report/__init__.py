"""The paper's table: what was measured beside what is published."""
