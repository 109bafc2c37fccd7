"""Benchmarks of outer gradients: time, memory and exactness, compared with other libraries."""
