"""Checks and measurements on a GPU, in one command."""
