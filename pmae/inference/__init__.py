"""Use checkpoints outside of their run: features, reconstructions, pictures."""
