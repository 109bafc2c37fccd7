"""`python -m cluster train CONFIG`, where nothing is installed: a job's working directory."""

import sys

from cluster.commands import LEAVE, SUBMIT, TRAIN
from metatrain.cli import run

sys.exit(run("python -m cluster", {"train": TRAIN, "submit": SUBMIT, "leave": LEAVE}))
