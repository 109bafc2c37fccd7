"""Hessian-vector products against each other, on networks small enough to compile in a test."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.func import functional_call, grad
from toys import ToyNetwork, toy_theta

from metatrain.base.errors import UserError
from metatrain.data.batch import support_batch
from metatrain.data.examples import Examples
from metatrain.generators.codecs.codec import Identity, IdentityConfig
from metatrain.generators.generator import Generator
from metatrain.generators.networks.dit import DiT, DiTConfig
from metatrain.generators.objectives.flow import FlowConfig, FlowMatching
from metatrain.learning.inner.gradient_field import GradientField
from metatrain.learning.inner.hvp import HVPS, Compiled, DoubleBackward, FiniteDifference
from metatrain.learning.inner.rule import InnerRule
from metatrain.learning.inner.theta import Theta


class Perceptron(ToyNetwork):
    """The smallest network that an objective takes: it compiles in seconds."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 8), nn.SiLU(), nn.Linear(8, 64))

    def forward(self, x):
        return (self.net(x) - x).square().mean()


class Place:
    """Weights, a vector and a draw at which products are made."""

    def __init__(self, theta, dtype, seed=0):
        noise = torch.Generator().manual_seed(seed)
        self.theta, generator = theta.to(dtype), theta.generator
        self.field = GradientField(self.theta)

        def near(p):
            return p.detach() + 0.05 * torch.randn(p.shape, generator=noise).to(p)

        self.weights = {name: near(p) for name, p in theta.named().items()}
        images = torch.rand(3, 1, 8, 8, generator=noise).to(dtype) * 2 - 1
        self.draw, other = (
            generator.prepare(support_batch(Examples(images), seed, index)) for index in (0, 1)
        )
        # A gradient, as in an inner loop; differences are at their worst on noise.
        self.vector = grad(lambda w: functional_call(generator, w, other))(self.weights)

    def product(self, hvp):
        return hvp(self.weights, self.vector, self.draw)


def perceptron():
    torch.manual_seed(0)
    return toy_theta(
        Perceptron(),
        lambda batch: (batch.examples.target.flatten(1),),
        lambda network, x: network(x),
    )


def dit():
    torch.manual_seed(0)
    network = DiT(DiTConfig(width=16, depth=1, heads=2), (1, 8, 8))
    flow = FlowMatching(FlowConfig(), (1, 8, 8))
    return Theta(Generator(network, flow, Identity(IdentityConfig())), InnerRule())


def error(product, exact):
    difference = sum((product[n] - exact[n]).square().sum() for n in exact).sqrt()
    return float(difference / sum(e.square().sum() for e in exact.values()).sqrt())


@pytest.mark.long
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-8), (torch.float32, 1e-4)])
def test_compiled_is_double_backward(dtype, tolerance):
    place = Place(perceptron(), dtype)
    exact = place.product(DoubleBackward(place.field))
    assert error(place.product(Compiled(place.field)), exact) < tolerance


def test_one_graph_serves_all_inner_steps_and_episodes_of_a_dit():
    # Captured as it would be to be compiled, which itself takes a minute and more.
    place = Place(dit(), torch.float64)
    compiled, counter = Compiled(place.field), CompileCounterWithBackend("eager")
    compiled._compiled = torch.compile(compiled._product, backend=counter, dynamic=False)
    for seed in range(4):
        at = Place(place.theta, torch.float64, seed)
        assert error(at.product(compiled), at.product(DoubleBackward(at.field))) < 1e-8
    assert counter.frame_count == 1


def test_a_compiled_product_that_is_wrong_is_refused():
    place = Place(perceptron(), torch.float32)
    compiled = Compiled(place.field)
    honest = compiled._product
    compiled._compiled = lambda *at: {n: 1.01 * p for n, p in honest(*at).items()}
    with pytest.raises(UserError, match=r"is wrong by 0.01 .* meta.hvp=double_backward"):
        place.product(compiled)


def test_a_compiled_product_that_is_not_a_number_is_refused():
    place = Place(perceptron(), torch.float32)
    compiled = Compiled(place.field)
    compiled._compiled = lambda weights, *_: {n: w * torch.nan for n, w in weights.items()}
    with pytest.raises(UserError, match="wrong by nan"):
        place.product(compiled)


@pytest.mark.parametrize("network", [perceptron, dit])
def test_difference_is_near_and_knows_how_near(network):
    place = Place(network(), torch.float32)
    exact = place.product(DoubleBackward(place.field))
    difference = FiniteDifference(place.field)
    true = error(place.product(difference), exact)
    assert true < 1e-3
    assert difference.error / 10 < true < 10 * difference.error


@pytest.mark.parametrize("name", HVPS)
def test_a_part_of_the_weights_gives_its_columns(name):
    place = Place(perceptron(), torch.float64)
    part = {n: v for n, v in place.vector.items() if "bias" in n}
    whole = {n: part.get(n, torch.zeros_like(v)) for n, v in place.vector.items()}
    exact = DoubleBackward(place.field)(place.weights, whole, place.draw)
    product = HVPS[name](place.field)(place.weights, part, place.draw)
    assert product.keys() == place.weights.keys()
    assert error(product, exact) < (1e-5 if name == "difference" else 1e-8)


def test_difference_in_weights_that_are_0():
    place = Place(perceptron(), torch.float32)
    part = {n: v for n, v in place.vector.items() if "bias" in n}
    place.weights |= {n: torch.zeros_like(v) for n, v in part.items()}
    exact = DoubleBackward(place.field)(place.weights, part, place.draw)
    product = FiniteDifference(place.field)(place.weights, part, place.draw)
    assert error(product, exact) < 1e-3


def test_a_product_of_zero_proves_nothing_and_the_next_is_checked():
    place = Place(perceptron(), torch.float32)
    compiled = Compiled(place.field)
    compiled._compiled = lambda weights, *_: {n: torch.ones_like(w) for n, w in weights.items()}
    vector = place.vector
    place.vector = {n: torch.zeros_like(v) for n, v in vector.items()}
    place.product(compiled)
    place.vector = vector
    with pytest.raises(UserError, match="is wrong by"):
        place.product(compiled)
