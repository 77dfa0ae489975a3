"""zerosum: the game of generative adversarial networks."""
