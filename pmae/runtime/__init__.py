"""Helpers for every process: logs, files, memory, addresses, signals, secrets."""
