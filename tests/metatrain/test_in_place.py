"""Inner optimisers in place, to the bit those of torch's classes."""

import pytest
import torch
from torch import nn

from metatrain.learning.inner.in_place import InPlaceAdam, InPlaceSGD
from metatrain.learning.inner.optimizers import BETA2, EPSILON

ADAM = {"betas": (0.8, BETA2), "eps": EPSILON, "fused": True}
PAIRS = {
    "sgd": (
        lambda moved: InPlaceSGD(moved, lr=0.1, momentum=0.0),
        lambda moved: torch.optim.SGD(moved, lr=0.1),
    ),
    "momentum": (
        lambda moved: InPlaceSGD(moved, lr=0.1, momentum=0.9),
        lambda moved: torch.optim.SGD(moved, lr=0.1, momentum=0.9),
    ),
    "adam": (
        lambda moved: InPlaceAdam(moved, lr=0.01, beta1=0.8),
        lambda moved: torch.optim.Adam(moved, lr=0.01, **ADAM),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_parameters_move_as_by_torchs_class(name):
    """Also where some have no gradient in a step, as those of another player."""
    stream = torch.Generator().manual_seed(0)
    shapes = [(33, 17), (5,), (2, 3, 4, 4)]
    ours = [nn.Parameter(torch.randn(shape, generator=stream)) for shape in shapes]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    optimizers = [make(moved) for make, moved in zip(PAIRS[name], (ours, theirs), strict=True)]
    for step in range(7):
        for index, pair in enumerate(zip(ours, theirs, strict=True)):
            gradient = torch.randn(pair[0].shape, generator=stream)
            for parameter in pair:
                parameter.grad = gradient.clone() if (step + index) % 3 else None
        for optimizer in optimizers:
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
