"""Packing: images of many origins become one packed data set."""
