"""Combining models that were trained into one."""
