"""`python -m tuning sweep SWEEP`, for where metatrain is not installed: the folder of a job."""

import sys

from metatrain.cli.command import run
from tuning.commands import SUBMIT, SWEEP

sys.exit(run("python -m tuning", {"sweep": SWEEP, "submit": SUBMIT}))
