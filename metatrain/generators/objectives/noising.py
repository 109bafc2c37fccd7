"""The noise levels of a scheduler of diffusers, and what a network predicts at each."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.text import reason_of
from metatrain.generators.diffusers_import import diffusers_class

FLOW = "FlowMatchEulerDiscreteScheduler"
_PREDICTIONS = ("epsilon", "v_prediction", "sample")


class NoiseLevels(ABC):
    """Noise levels of the examples of a batch.

    Attributes:
        times: the timesteps that the network sees, [B].
    """

    times: Tensor

    @abstractmethod
    def noisy_and_target(self, examples: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mix examples and noise [B, C, H, W], and compute what is to be predicted of it."""

    @abstractmethod
    def weights(self, min_snr: float | None) -> Tensor:
        """Return the weight of each example's error, [B]."""


@dataclass(frozen=True)
class VarianceLevels(NoiseLevels):
    """x_t = sqrt(a) x + sqrt(1 - a) noise, with a [B] the cumulated product of alphas."""

    times: Tensor
    alphas: Tensor
    prediction: str

    @override
    def noisy_and_target(self, examples: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        alphas = self.alphas.to(examples)[:, None, None, None]
        signal, rest = alphas.sqrt(), (1 - alphas).sqrt()
        targets = {
            "epsilon": noise,
            "sample": examples,
            "v_prediction": signal * noise - rest * examples,
        }
        return signal * examples + rest * noise, targets[self.prediction]

    @override
    def weights(self, min_snr: float | None) -> Tensor:
        """Weight by min(SNR, gamma) in units of the example: Hang et al. 2023, section 3.4."""
        if min_snr is None:
            return torch.ones_like(self.alphas)
        # In this form no level divides by 0, that without signal neither.
        capped = (self.alphas / (1 - self.alphas)).clamp(max=min_snr)
        return {
            "epsilon": (min_snr * (1 - self.alphas) / self.alphas).clamp(max=1.0),
            "sample": capped,
            "v_prediction": capped * (1 - self.alphas),
        }[self.prediction]


@dataclass(frozen=True)
class FlowLevels(NoiseLevels):
    """x_s = (1 - s) x + s noise, of which noise - x is predicted."""

    times: Tensor
    sigmas: Tensor

    @override
    def noisy_and_target(self, examples: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        sigmas = self.sigmas.to(examples)[:, None, None, None]
        return (1 - sigmas) * examples + sigmas * noise, noise - examples

    @override
    def weights(self, min_snr: float | None) -> Tensor:
        return torch.ones_like(self.sigmas)


class Noising(ABC):
    """The noise levels of a scheduler.

    Attributes:
        has_snr: whether its levels have a signal-to-noise ratio to weight by.
        is_dynamic: whether the time shift depends on the size of examples.
        shift: the time shift.
    """

    has_snr = False
    is_dynamic = False
    shift = 1.0

    @abstractmethod
    def levels(self, places: Tensor) -> NoiseLevels:
        """Return the levels at places [B] in [0, 1) between no noise and nothing else."""


class VarianceNoising(Noising):
    """Discrete levels of a scheduler that keeps the variance."""

    has_snr = True

    def __init__(self, values: dict[str, Any], url: str) -> None:
        self._prediction = values.get("prediction_type", "epsilon")
        if self._prediction not in _PREDICTIONS:
            raise UserError(
                f"prediction_type in {url} is {self._prediction}, and it is one of "
                f"{', '.join(_PREDICTIONS)}; correct it."
            )
        scheduler = diffusers_class("DDPMScheduler").from_config(values)
        betas: Tensor = scheduler.betas
        # NaN is in no range.
        if not (len(betas) and ((betas >= 0) & (betas <= 1)).all()):
            raise ValueError("its betas are not variances from 0 to 1")
        if len(betas) != scheduler.config.num_train_timesteps:
            raise ValueError("it has another number of trained_betas than of num_train_timesteps")
        if str(scheduler.config.variance_type).startswith("learned"):
            raise ValueError("its variance_type is that of a network that predicts a variance")
        self._alphas: Tensor = scheduler.alphas_cumprod

    @override
    def levels(self, places: Tensor) -> NoiseLevels:
        times = (places * len(self._alphas)).long()
        return VarianceLevels(times, self._alphas.to(places.device)[times], self._prediction)


class FlowNoising(Noising):
    """Continuous levels of flow matching, shifted towards noise (Esser et al. 2024, eq. 23)."""

    def __init__(self, values: dict[str, Any], shape: tuple[int, int, int]) -> None:
        self._timesteps = values.get("num_train_timesteps", 1000)
        self.is_dynamic = bool(values.get("use_dynamic_shifting", False))
        self.shift = _dynamic_shift(values, shape) if self.is_dynamic else values.get("shift", 1.0)
        if not (0 < self.shift < math.inf and self._timesteps > 0):
            raise ValueError(f"it has a shift of {self.shift} and {self._timesteps} timesteps")

    @override
    def levels(self, places: Tensor) -> NoiseLevels:
        sigmas = self.shift * places / (1 + (self.shift - 1) * places)
        return FlowLevels(self._timesteps * sigmas, sigmas)


def noising_of(values: dict[str, Any], shape: tuple[int, int, int], url: str) -> Noising:
    """Make the noise levels of a scheduler's configuration.

    Args:
        values: the configuration.
        shape: of an example as the network sees it, [C, H, W].
        url: its folder, for messages.

    Raises:
        UserError: when it cannot be used.
    """
    try:
        with torch.device("cpu"):  # they are values, also where weights have none
            is_flow = values["_class_name"] == FLOW
            return FlowNoising(values, shape) if is_flow else VarianceNoising(values, url)
    except UserError:
        raise
    except Exception as error:  # a configuration of others may fail in any way
        raise UserError(
            f"the scheduler in {url} cannot be used: {reason_of(error)}; correct it."
        ) from error


def _dynamic_shift(values: dict[str, Any], shape: tuple[int, int, int]) -> float:
    """Compute the shift of as many tokens of 2 x 2 values as an example has."""
    tokens = shape[1] * shape[2] / 4
    few, many = values.get("base_image_seq_len", 256), values.get("max_image_seq_len", 4096)
    low, high = values.get("base_shift", 0.5), values.get("max_shift", 1.15)
    return math.exp(low + (high - low) * (tokens - few) / (many - few))
