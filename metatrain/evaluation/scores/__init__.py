"""Scores of the images: their statistics, baselines and intervals."""
