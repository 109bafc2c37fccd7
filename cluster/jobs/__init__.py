"""Runs as jobs of a remote cluster: preflight, package, submit, follow."""
