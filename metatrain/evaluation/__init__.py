"""Evaluation on unseen tasks: one protocol for all systems, with baselines and intervals."""
