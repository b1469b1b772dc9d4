"""Checkpoints: their files, and reconstructions made with them."""
