"""Combinations of several trained models into one."""
