"""The basis of a run: spectrum, components, and its files."""
