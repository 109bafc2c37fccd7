"""Packing images of many origins into one packed data set."""
