"""A run on disk: its folder, its events, and its checkpoints."""
