"""Distribute meta-training: Ray Train workers, each with a DeepSpeed engine.

Rooms, each built on those before it:

    engine/   DeepSpeed engines, and the inner loop on sharded parameters
    run/      one run: launch -> worker_group -> worker, which trains with an engine
    jobs/     a run as a job of a remote cluster: submit -> package, preflight, follow
    doctor/   checks of a cluster before a run: doctor -> examination -> probe, checks

`capacity`, `placement` and `ray_internals` serve all of them; `commands` is the command line.
"""

import os

# Ray reads these variables when it is imported, which happens after this.
# With a long interval between health checks, a lost worker is noticed late.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
# Usage reports need a network.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray would warn that a worker without a GPU can see GPUs; `worker.train` handles that.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
    # Ray ignores a token for a cluster that is named by its address, unless it is told to use it.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
