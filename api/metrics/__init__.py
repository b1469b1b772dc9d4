"""Metric series: downsampled in SQL, as JSON or as CSV."""
