"""Commands for the state of the service and its workers."""
