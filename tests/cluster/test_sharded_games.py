"""GANs under every way of sharding against one plain loop, in real processes over gloo."""

import pytest
from safetensors.torch import load_file
from test_sharding import SGD, Case, work
from workers import run_workers

GAN = (
    *SGD,
    "generator.name=resnet_gan",
    "generator.width=8",
    "generator.support=true",
    "objective.name=adversarial",
    "objective.d_steps=2",
    "inner.lr=0.01",
)
WAYS = ("0", "1", "2", "gathered", "sharded")
PENALTY = ("objective.loss=wgan-gp", "objective.penalty=1")
FAST = ("generator.name=fastgan", "objective.loss=hinge", "objective.penalty=0")
CASES = [
    *(Case("reptile", way, GAN) for way in WAYS),
    *(Case("fomaml", way, (*GAN, *FAST)) for way in ("1", "sharded")),
    *(Case("admm", way, (*GAN, *PENALTY)) for way in ("2", "gathered")),
    Case("joint", "sharded", GAN),
    Case("maml", "gathered", GAN),
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    run_workers(2, folder, work, str(folder), CASES)
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.learner}-{case.way}")
def test_games_end_where_one_plain_loop_does(outcomes, case):
    case.assert_ends_as_plain_loop(load_file(outcomes / str(CASES.index(case))))
