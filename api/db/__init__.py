"""Tables, migrations and the one state machine of runs. Shared with the worker."""
