"""Checkpoints: all of a run at one step, whole or not there at all, free of the world size."""

from metatrain.training.checkpoint.background import BackgroundWriter
from metatrain.training.checkpoint.reading import Checkpoint, DamagedError
from metatrain.training.checkpoint.state import draft_of, state_of
from metatrain.training.checkpoint.store import CheckpointStore
from metatrain.training.checkpoint.writing import ALONE, Draft, Peers

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
