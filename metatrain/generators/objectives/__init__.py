"""Objectives: what a generator minimises, in terms that each move their own parameters."""
