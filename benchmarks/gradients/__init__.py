"""Benchmarks of outer gradients: time, memory and exactness, beside peers."""
