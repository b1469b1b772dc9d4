"""Supervision of one claimed run: its trainer process and its outcome."""
