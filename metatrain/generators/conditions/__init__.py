"""Encoders of conditions. A further one is one file here and one line in `registry`."""
