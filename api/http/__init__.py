"""HTTP for all routes: errors, validation, parameters, pagination, documentation."""
