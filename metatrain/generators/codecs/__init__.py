"""Codecs: fixed maps between pixels and the latents that a network sees."""
