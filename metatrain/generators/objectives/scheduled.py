"""Denoising as a scheduler of diffusers defines it: the objective of pretrained backbones."""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.base.text import reason_of
from metatrain.data.batch import Batch
from metatrain.data.examples import Examples
from metatrain.generators.diffusers_import import diffusers_class
from metatrain.generators.networks.backbone import Backbone
from metatrain.generators.networks.backbone_texts import NEGATIVE, ROWS
from metatrain.generators.networks.network import Network
from metatrain.generators.objectives.flow import random_stream
from metatrain.generators.objectives.noising import FLOW, Noising, noising_of
from metatrain.generators.objectives.objective import NOTHING, Draw, Objective, Term
from metatrain.generators.objectives.sections import ScheduledConfig, SchedulerSamplerConfig

SCHEDULERS = (
    *("DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "EulerDiscreteScheduler"),
    *("EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler"),
    *("UniPCMultistepScheduler", FLOW),
)


class Scheduled(Objective[ScheduledConfig]):
    """Regression of noise, velocity or example at the scheduler's noise levels.

    Ho et al. 2020, eq. 14 (epsilon); Salimans and Ho 2022, appendix D (v_prediction); Lipman et
    al. 2023, eq. 23 with the time shift of Esser et al. 2024, eq. 23 (flow matching).

    A draw is the noisy examples [B, C, H, W], their timesteps [B], what is to be predicted
    [B, C, H, W], the weight of each [B], and the row of its text [B].

    Raises:
        UserError: when the folder holds no scheduler that is known.
    """

    Config = ScheduledConfig
    trains = Backbone
    needs = "generator.name=diffusers"

    def __init__(self, config: ScheduledConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        self._values = config.values()
        name = self._values["_class_name"]
        if name not in SCHEDULERS:
            raise UserError(
                f"{config.url} is of the class {name}, and a scheduler is one of "
                f"{', '.join(SCHEDULERS)}; name another folder, or its subfolder."
            )
        self._kind = diffusers_class(name)
        self.noising: Noising = noising_of(self._values, shape, config.url)
        # What it refuses is known before training, and not only when it samples.
        self._scheduler(config.sampler.steps, torch.Generator())
        if config.min_snr and not self.noising.has_snr:
            raise UserError(
                "objective.min_snr weights noise levels of epsilon and v_prediction, and the "
                "scheduler is one of flow matching; leave it out."
            )

    @property
    @override
    def terms(self) -> Sequence[Term]:
        return (Term(prediction_error),)

    @override
    def prepare(self, batch: Batch, *, training: bool) -> Draw:
        target = batch.examples.target
        stream, count = random_stream(batch.seed, batch.noise_index), len(target)
        noise = torch.randn(target.shape, generator=stream)
        places = torch.rand(count, generator=stream)
        if self.config.times == "logit_normal":
            places = torch.randn(count, generator=stream).sigmoid()
        dropout = self.config.condition_dropout if training else 0.0
        dropped = (torch.rand(count, generator=stream) < dropout).to(target.device)
        rows = batch.examples.given[ROWS]
        assert isinstance(rows, Tensor)
        levels = self.noising.levels(places.to(target.device))
        noisy, wanted = levels.noisy_and_target(target, noise.to(target))
        weights = levels.weights(self.config.min_snr).to(target)
        return noisy, levels.times, wanted, weights, rows.masked_fill(dropped, NEGATIVE)

    def errors(self, network: Network, draw: Draw) -> Tensor:
        """Compute the error of each example of a draw, [B]; see `ErrorsByExample`."""
        assert isinstance(network, Backbone)
        return _prediction_errors(network, *draw)

    @override
    def sample(
        self,
        network: Network,
        support: Examples,
        count: int,
        seed: int,
        sampler: Section | None,
        given: Mapping[str, Tensor] = NOTHING,
    ) -> Tensor:
        assert isinstance(network, Backbone)
        config = sampler if isinstance(sampler, SchedulerSamplerConfig) else self.config.sampler
        stream = torch.Generator().manual_seed(seed)
        scheduler, options = self._scheduler(config.steps, stream)
        noise = torch.randn((count, *self.shape), generator=stream).to(support.target)
        rows = network.conditions(given, noise)[ROWS]
        assert isinstance(rows, Tensor)
        x = noise * float(getattr(scheduler, "init_noise_sigma", 1.0))
        # The scheduler of flow matching leaves what the network sees as it is.
        scaled = getattr(scheduler, "scale_model_input", lambda x, time: x)
        for time in scheduler.timesteps:
            predicted = _guided(network, scaled(x, time), time, rows, config.guidance)
            x = scheduler.step(predicted, time, x, **options).prev_sample.to(support.target)
        return x

    def _scheduler(self, steps: int, stream: torch.Generator) -> tuple[Any, dict[str, Any]]:
        """Make a scheduler for so many steps, and the options of each.

        Raises:
            UserError: when it refuses its configuration or so many steps.
        """
        options: dict[str, Any] = {}
        if self.noising.is_dynamic:
            # Evenly from 1 to 1 / steps before the shift, as FLUX's pipeline has them.
            with torch.device("cpu"):
                sigmas = torch.linspace(1.0, 1.0 / steps, steps).tolist()
            options = {"sigmas": sigmas, "mu": math.log(self.noising.shift)}
        try:
            with torch.device("cpu"):  # its levels are values, also where weights have none
                scheduler = self._kind.from_config(self._values)
                scheduler.set_timesteps(steps, **options)
        except Exception as error:  # a configuration of others may fail in any way
            raise UserError(
                f"the scheduler in {self.config.url} cannot take {steps} steps: "
                f"{reason_of(error)}; correct it, or objective.sampler.steps."
            ) from error
        accepted = inspect.signature(scheduler.step).parameters
        return scheduler, {"generator": stream} if "generator" in accepted else {}


def prediction_error(
    network: Backbone, noisy: Tensor, times: Tensor, wanted: Tensor, weights: Tensor, rows: Tensor
) -> Tensor:
    """Compute the mean over the batch of weight |prediction - wanted|^2 per value, a scalar."""
    return _prediction_errors(network, noisy, times, wanted, weights, rows).mean()


def _prediction_errors(
    network: Backbone, noisy: Tensor, times: Tensor, wanted: Tensor, weights: Tensor, rows: Tensor
) -> Tensor:
    error = (network.predict(noisy, times, rows) - wanted).square().mean(dim=(1, 2, 3))
    return weights * error


def _guided(network: Backbone, x: Tensor, time: Tensor, rows: Tensor, guidance: float) -> Tensor:
    """Combine predictions with and without the text, as Ho and Salimans 2022, eq. 6."""
    times = time.to(x.device).expand(len(x))
    towards = network.predict(x, times, rows)
    if guidance == 1.0:
        return towards
    free = network.predict(x, times, torch.full_like(rows, NEGATIVE))
    return free + guidance * (towards - free)
