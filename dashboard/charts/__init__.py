"""Charts as Altair specs."""
