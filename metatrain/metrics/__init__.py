"""Metrics of generated images, and the feature spaces that they are computed in."""
