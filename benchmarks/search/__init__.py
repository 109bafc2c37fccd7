"""Benchmarks of sweeps: their overhead, and how well cheap scores rank."""
