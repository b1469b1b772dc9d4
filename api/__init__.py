"""The REST API. Importing it imports no torch: reconstructions load it on first use."""
