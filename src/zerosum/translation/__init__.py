"""Translating images and films with any network that maps images to images."""
