"""Search inner rates, step counts and all else: Ray Tune over whole distributed runs.

sweep -> suggestions -> trial -> cluster.run.training; every trial's record is in the ledger
"""

import os

import cluster  # noqa: F401  it says what Ray is to read when it is imported

# Tune reads these as it runs. What it would print itself is in the way of our table.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
# A trial that failed has no score to report.
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
# Ctrl-C is to come to us; Tune would wait for every trial.
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
