"""The latent space as a tool: directions in it, the latent of a photo, and mixtures of two."""
