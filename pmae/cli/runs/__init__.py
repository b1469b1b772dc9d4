"""Commands for runs: submit, list, follow, change."""
