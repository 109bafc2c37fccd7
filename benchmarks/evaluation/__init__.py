"""Benchmarks of evaluation: its time by phase, and the coverage of its expectations."""
