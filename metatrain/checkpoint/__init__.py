"""Checkpoints: all of a run at one step, whole or not there at all, free of the world size."""

from metatrain.checkpoint.background import BackgroundWriter
from metatrain.checkpoint.reading import Checkpoint, DamagedError
from metatrain.checkpoint.state import draft_of, state_of
from metatrain.checkpoint.store import CheckpointStore
from metatrain.checkpoint.writing import ALONE, Draft, Peers

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
