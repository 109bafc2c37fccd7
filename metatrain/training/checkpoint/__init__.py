"""Checkpoints: a run's whole state at one step, written and read by any number of workers."""

from metatrain.training.checkpoint.background import BackgroundWriter
from metatrain.training.checkpoint.peers import ALONE, Peers
from metatrain.training.checkpoint.reading import Checkpoint, DamagedError
from metatrain.training.checkpoint.state import draft_of, state_of
from metatrain.training.checkpoint.store import CheckpointStore
from metatrain.training.checkpoint.writing import Draft

__all__ = [
    "ALONE",
    "BackgroundWriter",
    "Checkpoint",
    "CheckpointStore",
    "DamagedError",
    "Draft",
    "Peers",
    "draft_of",
    "state_of",
]
