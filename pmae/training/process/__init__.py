"""The trainer as a process: signals, fork server, and one process for each device."""
