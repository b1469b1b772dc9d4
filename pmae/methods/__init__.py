"""Methods of pretraining: what is hidden, what the model predicts, and the loss."""
