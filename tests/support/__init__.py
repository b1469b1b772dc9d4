"""Real servers and small tools that the tests share."""
