"""The run that trains a codec: a configuration like any other, and the file made of its model."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.progress import tracked
from metatrain.config import Config, parse_config, with_values
from metatrain.data.packed.store import EpisodeStore
from metatrain.generators.codecs.trained import codec_bytes
from metatrain.generators.frozen import FrozenWeights
from metatrain.generators.networks.autoencoder import Autoencoder
from metatrain.generators.objectives.sections import AutoencodeConfig
from metatrain.metrics.network import NETWORK, metric_network
from metatrain.model.file import load_model
from metatrain.storage.files import write_file

_SUFFIX = ".safetensors"
# About as many images that the statistics of latents are of, and those encoded at once.
_IMAGES, _BATCH = 4096, 64


def codec_config(
    data: str,
    out: str,
    *,
    factor: int,
    latent_channels: int,
    steps: int,
    size: int | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Make the configuration of a run that trains a codec, which any trainer takes.

    Trains the metric network of the perceptual loss, where the run's folder has none.

    Args:
        data: a packed data set.
        out: the codec's file; the run's folder is beside it.
        factor: an image's side in latents' sides.
        latent_channels: channels of a latent.
        steps: outer steps.
        size: height and width of the images; as packed by default.
        overrides: further values by dotted key.

    Raises:
        UserError: when the data cannot be read, or a value is not allowed.
    """
    if not out.endswith(_SUFFIX):
        raise UserError(f"the codec's file is {out}; give it a name that ends with {_SUFFIX}.")
    store = EpisodeStore(data)
    packed, channels = store.shape()
    folder, _, name = out.removesuffix(_SUFFIX).rpartition("/")
    config = parse_config(
        {
            "run": {"name": f"{name}-training", "dir": folder or "."},
            "data": {
                **{"path": data, "image_size": size or packed, "channels": channels},
                **{"shots": 2, "queries": 2, "too_few": "repeat"},
            },
            "generator": {
                **{"name": "autoencoder", "factor": factor},
                **{"latent_channels": latent_channels},
            },
            "objective": {"name": "autoencode"},
            "learner": {"name": "joint"},
            "meta": {"steps": steps, "batch": 4, "lr": 2e-3},
        }
    )
    config = with_values(config, overrides or {})
    objective = config.objective
    if not isinstance(objective, AutoencodeConfig):
        raise UserError(
            "a codec is trained with objective.name=autoencode; leave objective.name out."
        )
    if objective.perceptual and objective.features is None:
        features = FrozenWeights(path=_features_of(config, store))
        objective = objective.model_copy(update={"features": features})
        config = config.model_copy(update={"objective": objective})
    return config


def _features_of(config: Config, store: EpisodeStore) -> str:
    url, data = f"{config.run.url}/{NETWORK}", config.data
    metric_network(store, url, image_size=data.image_size, channels=data.channels)
    return url


def write_codec(config: Config, url: str) -> None:
    """Write the codec's file `url` of a run that has taken its last step.

    Raises:
        UserError: when the data cannot be read, or the file not be written.
    """
    model = load_model(config.run.url, trust=True)
    network = model.generator().network
    assert isinstance(network, Autoencoder)
    mean, std = latent_statistics(network, _images(config))
    about = {"run": config.run.name, "step": str(model.step)}
    write_file(url, codec_bytes(network, mean, std, about))


def _images(config: Config) -> Iterator[Tensor]:
    """Yield batches of the images of training tasks, spread evenly over all of them."""
    store, data = EpisodeStore(config.data.path), config.data
    tasks = store.tasks("train")
    chosen = tasks[:: -(-sum(task.count for task in tasks) // _IMAGES)]
    progress = tracked("measuring latents", chosen, len(chosen))
    for images in store.images_of(progress, data.image_size, data.channels):
        yield from images.split(_BATCH)


@torch.no_grad()
def latent_statistics(network: Autoencoder, images: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """Compute mean and standard deviation [c] of each channel of the latents of images.

    Args:
        network: the autoencoder.
        images: batches [B, C, H, W].
    """
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for batch in images:
        latents = network.encode(batch).double().transpose(0, 1).flatten(1)
        count += latents.shape[1]
        total, squares = total + latents.sum(dim=1), squares + latents.square().sum(dim=1)
    mean = total / count
    return mean, (squares / count - mean**2).clamp_min(1e-12).sqrt()
