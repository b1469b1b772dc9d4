"""Evaluations of checkpoints as runs of their own: submitting them, and a run's list of them."""
