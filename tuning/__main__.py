"""`python -m tuning sweep SWEEP`, where nothing is installed: a job's working directory."""

import sys

from metatrain.cli.command import run
from tuning.commands import SUBMIT, SWEEP

sys.exit(run("python -m tuning", {"sweep": SWEEP, "submit": SUBMIT}))
