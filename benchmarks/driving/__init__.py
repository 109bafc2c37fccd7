"""Driving: whether a classifier of rare traffic signs learns from generated photos."""
