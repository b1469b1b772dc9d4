"""Measure the figures of docs/performance.md."""
