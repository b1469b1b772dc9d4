"""Reconstructions and filmstrips: pictures of what a model predicts."""
