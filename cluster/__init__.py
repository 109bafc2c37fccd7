"""Distribute meta-training: Ray Train workers, each with a DeepSpeed engine.

launch -> joining, training -> worker -> engine
submit -> package, preflight, follow: the same launch as a job on a cluster
"""

import os

# Ray reads these when it is imported, which is after this. A worker lost between two looks is
# noticed late, and usage reports want a network.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray would warn that it leaves GPUs visible to a worker that asks for none; see `worker.train`.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
    # A token that Ray was given it should use; to a cluster named by address it does not of itself.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
