"""Evaluation jobs, and the processes that share them."""
