"""Who may use the service: keys, roles, signed links, limits, and the trail of what was changed."""
