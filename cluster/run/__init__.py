"""One run on a Ray cluster: the driver, the workers, and the observers of training.

launch -> ray_cluster, worker_group -> worker -> observers, metrics, resolve_auto
"""
