"""Event streams: what happens to one run, or to all, as server-sent events."""
