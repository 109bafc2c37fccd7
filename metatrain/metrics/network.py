"""The metric network: features for comparing images, learned from the training tasks alone."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from metatrain.base.errors import UserError
from metatrain.base.progress import Progress
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.pictures import on_white
from metatrain.data.tasks import TaskSource
from metatrain.generators.networks.metric_network import FEATURES, MetricNetwork
from metatrain.storage.files import MissingError, read_file, write_file
from metatrain.storage.lease import lease
from metatrain.storage.tensors import read_metadata

# The file's name beside what is scored with it.
NETWORK = "metric.safetensors"

# A supply of labelled images, and of a fingerprint that identifies it.
Tasks = EpisodeStore | TaskSource

_EPOCHS, _BATCH, _RATE, _TEMPERATURE = 3, 128, 3e-3, 0.1


@dataclass(frozen=True)
class HashedNetwork:
    """A metric network with the name and hash that identify its feature space (`FeatureSpace`)."""

    network: MetricNetwork
    name: str
    sha256: str

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return features [..., 64] of images [..., C, H, W]."""
        lead = images.shape[:-3]
        return self.network(on_white(images).flatten(0, -4)).unflatten(0, lead)


def metric_network(
    store: Tasks, url: str, *, image_size: int, channels: int, known: Sequence[str] = ()
) -> HashedNetwork:
    """Read the metric network at `url`; where there is no file, copy or train it first.

    An existing file is never replaced. Where another process trains it, this one waits for that,
    since both want the same.

    Args:
        store: the data set, of which only the training tasks are used.
        url: a safetensors file, a path or any fsspec URL.
        image_size: height and width of the images in pixels.
        channels: 1 for grey, 3 for RGB, 4 for RGBA, which is compared on white.
        known: further URLs where there may be one; the first for the same data and images is
            copied.

    Raises:
        UserError: when the data cannot be read or has smaller images, or the file cannot be
            written, or belongs to other data or another image shape.
    """
    store.refuse_enlarging(image_size)
    channels = min(channels, 3)
    origin = _origin(store, image_size, channels)
    try:
        content = read_file(url)
    except MissingError:
        with lease(url, "trains", wait=True, is_file=True):
            content = _read_or_write(store, url, origin, known)
    return _parse(content, origin, url)


def _read_or_write(store: Tasks, url: str, origin: dict[str, str], known: Sequence[str]) -> bytes:
    """Return the file's content, which this process writes if no other has meanwhile."""
    try:
        return read_file(url)
    except MissingError:
        content = _copy_of(known, origin)
        if content is None:
            shape = {key: int(origin[key]) for key in ("image_size", "channels")}
            content = save(train_metric_network(store, **shape).state_dict(), origin)
        write_file(url, content)
        return content


def _copy_of(known: Sequence[str], origin: dict[str, str]) -> bytes | None:
    """Return the content of the first of some files that has the network of this origin."""
    for url in known:
        with suppress(UserError):  # that is no network of ours, or cannot be read
            content = read_file(url)
            _parse(content, origin, url)
            return content
    return None


def train_metric_network(
    store: Tasks, *, image_size: int, channels: int, seed: int = 0
) -> MetricNetwork:
    """Train a network to separate the training tasks by cosine to one learned prototype a task.

    Normalised softmax at temperature 0.1 (Zhai and Wu 2019, "Classification is a Strong Baseline
    for Deep Metric Learning", eq. 3). Features that separate training tasks also separate unseen
    tasks.
    """
    images, labels = _training_images(store, image_size, channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = MetricNetwork(channels)
        prototypes = nn.Parameter(torch.randn(int(labels.max()) + 1, FEATURES))
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
        features = network(images[batch]) / FEATURES**0.5
        logits = features @ F.normalize(prototypes, dim=1).T / _TEMPERATURE
        optimizer.zero_grad()
        F.cross_entropy(logits, labels[batch]).backward()
        optimizer.step()
        schedule.step()
        progress.update(step + 1)
    progress.close()


def _training_images(store: Tasks, image_size: int, channels: int) -> tuple[Tensor, Tensor]:
    """Read all images [N, C, H, W] of the training tasks, with the task number of each [N]."""
    images = list(store.task_images("train", image_size, channels))
    labels = torch.repeat_interleave(torch.tensor([len(i) for i in images]))
    return torch.cat(images), labels


def _origin(store: Tasks, image_size: int, channels: int) -> dict[str, str]:
    """Return a network file's metadata: the data set and the image shape of its training."""
    return {
        "benchmark": store.url.rpartition("/")[2],
        "data": store.fingerprint,
        "image_size": str(image_size),
        "channels": str(channels),
    }


def _parse(content: bytes, origin: dict[str, str], url: str) -> HashedNetwork:
    try:
        metadata, tensors = read_metadata(content), load(content)
        name = metadata["benchmark"]
        network = MetricNetwork(int(metadata["channels"]))
        network.load_state_dict(tensors)
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{url} is not a metric network, or is damaged; remove it, and the next evaluation "
            f"trains one."
        ) from error
    for key in ("data", "image_size", "channels"):
        if metadata.get(key) != origin[key]:
            raise UserError(
                f"the metric network {url} was trained for '{name}' with {key} "
                f"{metadata.get(key)}, but the data to evaluate has {origin[key]}; scores of two "
                f"networks cannot be compared, so name another file, or remove this one to train "
                f"a new network."
            )
    return HashedNetwork(network.eval(), "metric network", hashlib.sha256(content).hexdigest())
