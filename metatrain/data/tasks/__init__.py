"""Task sources: pure functions from (seed, split, step, slot) to episodes."""
