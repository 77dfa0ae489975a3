"""From image to image with a trained generator, this package's own or somebody else's."""
