"""Every learner's outer gradient on a device, compared with the CPU's in float64."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from benchmarks.gpu.check import Check, difference
from benchmarks.gradients.cases import Case
from metatrain.base.parameters import Parameters
from metatrain.learning.learners import LEARNERS

_STEPS, _LATE = 2, 10_000
# In float32 by sums in another order; in bf16 by its 8 bits in every layer of every inner step.
_LIMITS = {"fp32": 1e-3, "bf16": 0.1}


def gradient_checks(device: torch.device) -> Iterator[Check]:
    """Check each learner in float32, and one of each order in bf16."""
    case = Case("unet", _STEPS, tasks=1, device=str(device))
    for name in LEARNERS.built_in:
        yield _check(name, case, "fp32")
    for name in ("fomaml", "maml"):
        yield _check(name, case, "bf16")


def _check(learner: str, case: Case, precision: str) -> Check:
    exact = _gradient(learner, replace(case, dtype=torch.float64, device="cpu"))
    result = _gradient(learner, case, precision)
    return Check(f"gradient, {learner}, {precision}", difference(result, exact), _LIMITS[precision])


def _gradient(learner: str, case: Case, precision: str = "fp32") -> Parameters:
    method = ["meta.gradient=adjoint"] if LEARNERS.sections[learner].products else []
    learns = case.learner(learner, [f"inner.precision={precision}", *method])
    theta = learns.inner.theta.copy()
    # Late in training, when the annealing of MAML++ is over.
    return learns.outer_gradient(theta, case.episodes(), step=_LATE).gradient
