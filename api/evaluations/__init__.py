"""Evaluations of checkpoints as runs of their own: submit them, and list those of a run."""
