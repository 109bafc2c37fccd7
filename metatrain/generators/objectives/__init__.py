"""Objectives: the losses that a generator minimises, each with the parameters that it moves."""
