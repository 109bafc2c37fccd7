"""Foundations that every room may import: errors, sections, named parameters, progress."""
