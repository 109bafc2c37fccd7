"""DEPLOY: Kubernetes manifests by kustomize, and the one command that sizes them for a run.

base -> components -> overlays; render puts a run's own configuration and size on top
"""
