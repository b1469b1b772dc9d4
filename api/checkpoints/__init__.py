"""Checkpoints: list, download, pin, delete and reconstruct with them."""
