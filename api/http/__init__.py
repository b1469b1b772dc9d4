"""What every route shares: errors, validation, parameters, pagination, documentation."""
