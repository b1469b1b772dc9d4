"""Health of the service: readiness, and metrics for Prometheus."""
