"""Checkpoints for use outside of their run: features, reconstructions, pictures."""
