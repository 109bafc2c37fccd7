"""The outer loop: engine, trainer, averages and checkpoints of a run."""
