"""The run database: tables, migrations and state machine. Shared with the worker."""
