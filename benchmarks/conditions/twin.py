"""The judge: a network of images and one of captions whose features meet, from training tasks."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from metatrain.base.errors import UserError
from metatrain.base.progress import Progress, tracked
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.pictures import on_white
from metatrain.data.tasks.class_reader import ClassReader
from metatrain.generators.conditions.words import Words, WordsConfig
from metatrain.generators.networks.metric_network import FEATURES, MetricNetwork
from metatrain.storage.files import MissingError, read_file, write_file
from metatrain.storage.tensors import read_metadata

_EPOCHS, _BATCH, _RATE, _TEMPERATURE, _WORDS_LEFT_OUT = 30, 256, 1e-3, 0.1, 0.3


class Twin(nn.Module):
    """Features of images and of captions, whose cosine says how well they go together.

    Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision"
    (CLIP), section 2.3: images are to find their caption among those of a batch, and captions their
    image. Words come as vectors from a frozen table, so that words of unseen tasks mean something.

    Args:
        channels: of the images, 1 or 3.
        words: the table of word vectors.
    """

    def __init__(self, channels: int, words: WordsConfig) -> None:
        super().__init__()
        self.of_images = MetricNetwork(channels)
        self.of_words = Words(words, FEATURES)

    def images(self, images: Tensor) -> Tensor:
        """Return features [..., 64] of length 1 of images [..., C, H, W] in [-1, 1]."""
        flat = self.of_images(on_white(images).flatten(0, -4))
        return F.normalize(flat, dim=1).unflatten(0, images.shape[:-3])

    def captions(self, captions: Sequence[str]) -> Tensor:
        """Return features [N, 64] of length 1 of N captions."""
        return self._features(self.of_words.tensor(tuple(captions)))

    def loss(self, images: Tensor, captions: Sequence[str], stream: torch.Generator) -> Tensor:
        """Compute the loss of images [N, C, H, W] and their captions, a scalar.

        A caption that several images have counts as theirs all. Some words are left out of each, so
        that every word has to say what it can.
        """
        vectors = self.of_words.tensor(tuple(captions))
        kept = torch.rand(vectors.shape[:2], generator=stream) > _WORDS_LEFT_OUT
        words = self._features(vectors * kept[..., None])
        logits = self.images(images) @ words.T / _TEMPERATURE
        numbers = torch.tensor([captions.index(caption) for caption in captions])
        same = (numbers[:, None] == numbers).float()
        targets = same / same.sum(dim=1, keepdim=True)
        return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2

    def _features(self, vectors: Tensor) -> Tensor:
        tokens, visible = self.of_words(vectors)
        weights = visible[..., None].float()
        return F.normalize((tokens * weights).sum(1) / weights.sum(1).clamp(min=1), dim=1)


def trained_twin(
    store: EpisodeStore, reader: ClassReader, condition: str, words: WordsConfig, url: str
) -> Twin:
    """Read the twin at `url`, or train it on the training tasks of `store` and write it there.

    Args:
        store: the data set.
        reader: reads its images with their captions.
        condition: the name of the captions' condition.
        words: the table of word vectors.
        url: a safetensors file.

    Raises:
        UserError: when the file was made of other data, or is damaged.
    """
    [first] = reader.examples("", [(store.tasks("train")[0], 0)]).target
    words = words.pinned()
    origin = {
        "data": store.fingerprint,
        "shape": str(list(first.shape)),
        "words": str(words.sha256),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        twin = Twin(min(len(first), 3), words)
        try:
            content = read_file(url)
        except MissingError:
            _fit(twin, *_training_images(store, reader, condition))
            content = save(twin.state_dict(), origin)
            write_file(url, content)
    try:
        if read_metadata(content) != origin:
            raise UserError(f"{url} judges the captions of other data; remove it.")
        twin.load_state_dict(load(content))
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise UserError(f"{url} is no judge of captions, or damaged; remove it.") from error
    return twin.eval().requires_grad_(False)


def _fit(twin: Twin, images: Tensor, captions: Sequence[str]) -> None:
    steps = _EPOCHS * -(-len(images) // _BATCH)
    optimizer = torch.optim.AdamW(twin.parameters(), lr=_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    progress = Progress("training the judge of captions", steps)
    stream = torch.Generator().manual_seed(0)
    for step, batch in enumerate(_batches(len(images), stream)):
        rows: list[int] = batch.tolist()
        optimizer.zero_grad()
        twin.loss(images[batch], [captions[i] for i in rows], stream).backward()
        optimizer.step()
        schedule.step()
        progress.update(step + 1)
    progress.close()


def _batches(count: int, stream: torch.Generator) -> Iterator[Tensor]:
    for _ in range(_EPOCHS):
        yield from torch.randperm(count, generator=stream).split(_BATCH)


def _training_images(
    store: EpisodeStore, reader: ClassReader, condition: str
) -> tuple[Tensor, list[str]]:
    """Read all images [N, C, H, W] of the training tasks, with the caption of each."""
    images, captions = [], []
    tasks = store.tasks("train")
    for task in tracked("reading captions", tasks, len(tasks)):
        examples = reader.examples(task.name, [(task, index) for index in range(task.count)])
        images.append(examples.target)
        captions += examples.given[condition]
    return torch.cat(images), captions
