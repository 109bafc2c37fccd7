"""Metric networks that a run has already, from its validation and its evaluations."""

from metatrain.metrics.network import NETWORK
from metatrain.model.model import Model
from metatrain.storage.files import is_local
from metatrain.training.run_data import run_folders


def networks_of(model: Model, url: str) -> list[str]:
    """List where the run of a model may have a metric network, for `metric_network` to look.

    Args:
        model: the model; a place elsewhere that it names is listed only if it is trusted.
        url: the model's file, in the run's folder or a checkpoint's.
    """
    named = model.config.validation.network
    folders = run_folders(url)
    places = [f"{folder}/{part}{NETWORK}" for folder in folders for part in ("", "evaluation/")]
    return [named, *places] if named and (model.trusted or is_local(named)) else places
