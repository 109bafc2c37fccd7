"""The model file, and its use: build, save, load, adapt, generate, expect."""
