"""A pretraining run: its steps, what happens between them, and its processes."""
