"""Measure the REST API on real servers beside MLflow and nginx."""
