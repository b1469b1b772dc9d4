"""Recording a trainer's events into SQL."""
