"""How good a model is on unseen tasks that are not those of the final evaluation."""

import math

import torch

from metatrain.errors import UserError
from metatrain.loader import held_out_episodes
from metatrain.metrics.kid import kid
from metatrain.metrics.network import metric_network
from metatrain.model import Model
from metatrain.progress import Progress
from metatrain.store import EpisodeStore
from metatrain.strips import draw_strips

# Images drawn of a task, and its reference images.
IMAGES = 5


class Validation:
    """KID after adapting to tasks of the split val, always the same ones; lower is better.

    Args:
        model: says of which size images are, and how many of a task are adapted to.
        data: URL of a packed data set.
        network: URL of the metric network, which is trained where there is none.
        tasks: how many tasks at most.

    Raises:
        UserError: when the data cannot be read, or fewer than two tasks have images enough.
    """

    def __init__(self, model: Model, data: str, network: str, tasks: int) -> None:
        store = EpisodeStore(data)
        self._episodes = held_out_episodes(
            store, model.config, split="val", tasks=tasks, queries=IMAGES
        )
        if len(self._episodes) < 2:
            raise UserError(f"split 'val' of {data} has one task only; scores need at least two.")
        self._network = metric_network(store, model.config.data, network)
        query = torch.stack([episode.query for episode in self._episodes])
        self._reference = self._network.features(query)

    def __call__(self, model: Model) -> float:
        """The score of `model`; infinite where what it draws is not finite."""
        last = model.config.adapt.steps
        progress = Progress("adapting to unseen tasks", len(self._episodes))
        drawn = []
        for strip in draw_strips(model, self._episodes, {last}, IMAGES):
            drawn.append(strip.drawn[last])
            progress.update(len(drawn))
        progress.close()
        found = kid(self._network.features(torch.stack(drawn)), self._reference)
        return found if math.isfinite(found) else math.inf
