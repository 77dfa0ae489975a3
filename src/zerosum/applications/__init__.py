"""What a GAN is trained for: does it help a classifier, does a design please, does a classifier stand an attack."""
