"""Adapting of the starts to held-out concepts, at rates that are chosen on the split val."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from benchmarks.backbones.concepts.curves import Curves
from benchmarks.backbones.concepts.plan import Plan
from metatrain.config import Config, with_values
from metatrain.data.packed.store import EpisodeStore
from metatrain.evaluation.episodes.episode_list import list_episodes
from metatrain.evaluation.protocol import Protocol
from metatrain.evaluation.running.jobs import JobOutput, read_outputs, system_at
from metatrain.evaluation.running.runner import LocalRunner, run_jobs
from metatrain.evaluation.standard_protocol import standard_protocol
from metatrain.learning.inner.theta import RULE
from metatrain.metrics.network import NETWORK
from metatrain.model.model import Model


class Adapting:
    """Measures starts on the same concepts with the same noise; what is done is not done again.

    Args:
        plan: the file of the benchmark.
        config: a configuration of the data set.
        folder: the folder of the metric network and of the outputs.
    """

    def __init__(self, plan: Plan, config: Config, folder: str) -> None:
        self._plan, self._data, self._folder = plan, config.data, folder
        self._store, self._runner = EpisodeStore(config.data.path), LocalRunner(1)

    @cached_property
    def test(self) -> Protocol:
        """The concepts that are measured."""
        return self._protocol("test", self._plan.concepts)

    @cached_property
    def _validation(self) -> Protocol:
        return self._protocol("val", self._plan.validation_concepts)

    def curves(self, name: str, start: Model) -> Curves:
        """Adapt `start` to the concepts; after each number of steps, at the rate that is best."""
        learned = any(parameter.startswith(RULE) for parameter in start.parameters)
        rates = [None] if learned else self._plan.rates
        urls = [self._saved(name, start, rate) for rate in rates]
        chosen = [0] * len(self._plan.inner_steps)
        if len(rates) > 1:
            losses = [_losses(self._outputs(self._validation, url)) for url in urls]
            chosen = torch.stack(losses).mean(dim=2).argmin(dim=0).tolist()
        outputs = {i: self._outputs(self.test, urls[i]) for i in sorted(set(chosen))}
        loss = {i: _losses(of) for i, of in outputs.items()}
        own = {i: self._own_task(of) for i, of in outputs.items()}
        last = self._plan.inner_steps[-1]
        return Curves(
            steps=self._plan.inner_steps,
            loss=torch.stack([loss[i][p] for p, i in enumerate(chosen)]),
            own_task=torch.stack([own[i][p] for p, i in enumerate(chosen)]),
            rates=[rates[i] for i in chosen],
            # Other work of the machine slows the rest.
            pace=min(o.seconds[-1].item() for of in outputs.values() for o in of) / last,
        )

    def held_out_own_task(self) -> float:
        """Return the share of real images that are nearest to their own concept."""
        return self.test.scorer.by_task(self.test.benchmark.held_out)[0].mean().item()

    def _protocol(self, split: str, tasks: int) -> Protocol:
        return standard_protocol(
            self._store,
            list_episodes(self._store, split),
            tasks=tasks,
            seeds=1,
            shots=self._data.shots,
            image_size=self._data.image_size,
            channels=self._data.channels,
            network=f"{self._folder}/{NETWORK}",
        )

    def _saved(self, name: str, start: Model, rate: float | None) -> str:
        """Write `start` as it adapts at `rate`, and return its URL."""
        values = {} if rate is None else {"adapt.lr": rate}
        url = f"{self._folder}/starts/{name}/{'learned' if rate is None else f'{rate:g}'}"
        model = replace(start, config=with_values(start.config, values))
        model.save(f"{url}/model.safetensors")
        return f"{url}/model.safetensors"

    def _outputs(self, protocol: Protocol, url: str) -> list[JobOutput]:
        system, _ = system_at(url, trust=True)
        jobs = protocol.jobs(system, f"{self._folder}/adapted", self._plan.inner_steps)
        run_jobs(jobs, self._runner)
        return read_outputs(jobs)

    def _own_task(self, outputs: Sequence[JobOutput]) -> Tensor:
        samples = self.test.by_steps(outputs)
        return torch.stack([self.test.scorer.by_task(images)[0] for images in samples])


def _losses(outputs: Sequence[JobOutput]) -> Tensor:
    return torch.stack([output.losses for output in outputs], dim=1)
