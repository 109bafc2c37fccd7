"""DEPLOY: Kubernetes manifests by kustomize, and the command that sizes them for a run.

base -> components -> overlays; render adds a run's configuration, size and name, and service those
of models that are served.
"""
