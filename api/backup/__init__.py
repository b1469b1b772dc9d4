"""Backups of the service: its database and its files (``pmae backup``, ``pmae restore``)."""
