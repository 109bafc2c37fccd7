"""`python -m cluster COMMAND`, for a job's working directory, where nothing is installed."""

import sys

from cluster.commands import CALIBRATE, DOCTOR, EVALUATE, LEAVE, SUBMIT, TRAIN
from metatrain.cli.command import run

COMMANDS = {
    "train": TRAIN,
    "submit": SUBMIT,
    "doctor": DOCTOR,
    "leave": LEAVE,
    "evaluate": EVALUATE,
    "calibrate": CALIBRATE,
}
sys.exit(run("python -m cluster", COMMANDS))
