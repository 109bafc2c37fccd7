"""Benchmarks: our cost beside other libraries, and beside the least possible cost."""
