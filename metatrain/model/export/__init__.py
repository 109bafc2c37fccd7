"""Adapted models as files that other tools read; a file a format."""
