"""What the REST API promises, measured on real servers beside what a lab would otherwise use."""
