"""The audit trail: a record of the requests that change something."""
