"""DEPLOY: Kubernetes manifests by kustomize, and the command that sizes them for a run or a service.

base -> components -> overlays; render adds a run's configuration, size and name.
"""
