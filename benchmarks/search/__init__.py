"""Benchmarks of sweeps: their overhead, and the ranking of trials by cheap scores."""
