"""Runs: submit, list, follow and stop them; read their metrics, logs and components."""
