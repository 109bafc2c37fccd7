"""Benchmarks of distribution: traffic, memory, recovery and scaling."""
