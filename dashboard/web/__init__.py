"""The web server around the pages: signing in, and which requests are answered at all."""
