"""Generators that combine several networks."""
