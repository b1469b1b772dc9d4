"""Runs: submitting, listing, following and stopping them; their figures, logs and components."""
