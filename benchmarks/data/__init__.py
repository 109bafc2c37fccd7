"""Benchmarks of reading: streaming and decoding."""
