"""Scores of the images, their statistics and baselines."""
