"""Evaluation of frozen checkpoints."""
