"""What a spec can name, who works, and whether the service is well."""
