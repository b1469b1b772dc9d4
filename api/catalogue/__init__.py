"""Presets, data sets, workers, the queue, and health."""
