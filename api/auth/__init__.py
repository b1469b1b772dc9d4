"""Access to the service: keys, roles, sessions, signed links and rate limits."""
