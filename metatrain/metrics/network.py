"""The metric network: features in which images are compared, learned from training tasks only."""

import hashlib
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from metatrain.base.errors import UserError
from metatrain.base.progress import Progress
from metatrain.data.config import DataConfig
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.tasks import TaskSource
from metatrain.generators.networks.layers import group_norm
from metatrain.storage.files import MissingError, read_file, write_file
from metatrain.storage.tensors import read_metadata

# A supply of labelled images, and of a fingerprint that identifies it.
Tasks = EpisodeStore | TaskSource

_FEATURES, _EPOCHS, _BATCH, _RATE, _TEMPERATURE = 64, 3, 128, 3e-3, 0.1


class MetricNetwork(nn.Module):
    """A small convolutional net from images in [-1, 1] to features of mean square 1.

    That is the scale at which KID's kernel was meant to be used.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, stride=2) for a, b in pairwise(widths)
        )
        self.norms = nn.ModuleList(group_norm(w) for w in widths[1:])
        self.out = nn.Linear(4 * widths[-1], _FEATURES)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] to features [N, 64]."""
        h = images
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            h = F.relu(norm(convolution(h)))
        flat = F.adaptive_avg_pool2d(h, 2).flatten(1)
        return F.normalize(self.out(flat), dim=1) * _FEATURES**0.5


@dataclass(frozen=True)
class HashedNetwork:
    """A metric network, with what stands beside every score of its making: see `FeatureSpace`."""

    network: MetricNetwork
    name: str
    sha256: str

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features [..., 64] of images [..., C, H, W]."""
        lead = images.shape[:-3]
        return self.network(images.flatten(0, -4)).unflatten(0, lead)


def metric_network(store: Tasks, data: DataConfig, url: str) -> HashedNetwork:
    """The network at `url`, trained first where there is none; what is there is never replaced.

    Args:
        store: the data set; only its training tasks are looked at.
        data: size and channels of the images.
        url: a safetensors file, a path or any fsspec URL.

    Raises:
        UserError: when the data cannot be read or has smaller images, or the file cannot be
            written, or was made for other data than this.
    """
    store.refuse_enlarging(data.image_size)
    try:
        content = read_file(url)
    except MissingError:
        network = train_metric_network(store, data)
        content = save(network.state_dict(), _made_for(store, data))
        write_file(url, content)
    return _parse(content, _made_for(store, data), url)


def train_metric_network(store: Tasks, data: DataConfig, seed: int = 0) -> MetricNetwork:
    """Train to tell the training tasks apart by cosine to one learned prototype a task.

    Normalised softmax at temperature 0.1 (Zhai and Wu 2019, "Classification is a Strong Baseline
    for Deep Metric Learning", eq. 3); features that separate tasks serve for unseen tasks too.
    """
    images, labels = _training_images(store, data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = MetricNetwork(data.channels)
        prototypes = nn.Parameter(torch.randn(int(labels.max()) + 1, _FEATURES))
        _fit(network, prototypes, images, labels)
    return network.eval()


def _fit(network: MetricNetwork, prototypes: nn.Parameter, images: Tensor, labels: Tensor) -> None:
    steps = _EPOCHS * -(-len(images) // _BATCH)
    parameters = [*network.parameters(), prototypes]
    optimizer = torch.optim.AdamW(parameters, lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    progress = Progress("training the metric network", steps)
    batches = (b for _ in range(_EPOCHS) for b in torch.randperm(len(images)).split(_BATCH))
    for step, batch in enumerate(batches):
        features = network(images[batch]) / _FEATURES**0.5
        logits = features @ F.normalize(prototypes, dim=1).T / _TEMPERATURE
        optimizer.zero_grad()
        F.cross_entropy(logits, labels[batch]).backward()
        optimizer.step()
        schedule.step()
        progress.update(step + 1)
    progress.close()


def _training_images(store: Tasks, data: DataConfig) -> tuple[Tensor, Tensor]:
    """All images [N, C, H, W] of the training tasks, and the number [N] of each one's task."""
    images = list(store.task_images("train", data.image_size, data.channels))
    labels = torch.repeat_interleave(torch.tensor([len(i) for i in images]))
    return torch.cat(images), labels


def _made_for(store: Tasks, data: DataConfig) -> dict[str, str]:
    """What a network's file says of the data that it was trained on."""
    return {
        "benchmark": store.url.rpartition("/")[2],
        "data": store.fingerprint,
        "image_size": str(data.image_size),
        "channels": str(data.channels),
    }


def _parse(content: bytes, made_for: dict[str, str], url: str) -> HashedNetwork:
    try:
        found, tensors = read_metadata(content), load(content)
        name = found["benchmark"]
        network = MetricNetwork(int(found["channels"]))
        network.load_state_dict(tensors)
    except (ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{url} is not a metric network, or is damaged; remove it, and one will be trained."
        ) from error
    for key in ("data", "image_size", "channels"):
        if found.get(key) != made_for[key]:
            raise UserError(
                f"the metric network {url} was made for '{name}' with {key} {found.get(key)}, and "
                f"here it is {made_for[key]}; scores in another network cannot be compared, so "
                f"name another file, or remove this one to have one trained."
            )
    return HashedNetwork(network.eval(), "metric network", hashlib.sha256(content).hexdigest())
