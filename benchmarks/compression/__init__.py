"""Benchmarks of smaller models."""
