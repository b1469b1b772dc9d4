"""A worker's name and heartbeat in the database."""
