"""Celery workers that execute runs: claim, supervise a trainer process, record, heartbeat."""
