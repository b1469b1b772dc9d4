"""Transforms of whole batches of images."""
