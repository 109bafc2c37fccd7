"""The origin of a benchmark's numbers: the machine and the commit."""

import os
import platform

import torch

from metatrain.base.checkout import checked_out_commit


def hardware() -> str:
    """Describe this machine's GPUs, or its cores if it has none."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{os.cpu_count()} cores, {platform.machine()}"


def commit() -> str:
    """Return the sha of the checked-out commit."""
    return checked_out_commit() or "unknown"
