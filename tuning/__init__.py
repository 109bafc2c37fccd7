"""Search over inner rates, step counts and any other key: Ray Tune over distributed runs.

sweep -> suggestions -> trial -> cluster.run.worker_group; the ledger has the records of all trials
"""

import os

import cluster  # noqa: F401  it sets the environment that Ray reads when it is imported

# Tune reads these as it runs. Its own output would break the table of trials.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
# A failed trial has no score to report.
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
# Ctrl-C must reach metatrain; Tune would wait for every trial.
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
