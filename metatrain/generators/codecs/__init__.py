"""Codecs: fixed maps between pixels and what a network sees."""
