"""Benchmarks of few-step sampling."""
