"""The masked autoencoder, and images as sequences of patches."""
