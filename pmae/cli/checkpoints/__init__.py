"""Commands for checkpoints: files, evaluations, pictures."""
