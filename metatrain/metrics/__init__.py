"""Scores of generated images, all in the feature space of one named metric network."""
