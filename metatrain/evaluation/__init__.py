"""Evaluation on unseen tasks: one protocol, with the baselines and intervals beside it."""
