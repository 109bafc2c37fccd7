"""Refinement: whether a classifier that learns from refined letters reads handwriting better."""
