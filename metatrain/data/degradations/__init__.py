"""Degradations of photographs, by which a high resolution becomes a low one."""
