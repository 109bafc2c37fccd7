"""Sounds: read from files of strangers, packed as waves, and seen as log-mel spectrograms."""
