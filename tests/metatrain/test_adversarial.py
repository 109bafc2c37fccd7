"""Games of a generator and a discriminator, against references that share no code with them.

The reference has two linear-tanh players whose losses, gradient penalty included, are written out;
autograd differentiates them once where ours take a derivative inside.
"""

import numpy as np
import pytest
import torch
from gradients import assert_same
from torch import nn

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.config import load_config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.generators import Generator
from metatrain.generators.codecs.codec import Identity, IdentityConfig
from metatrain.generators.networks.adversarial import LATENT, AdversarialNetwork, Judgement
from metatrain.generators.objectives.adversarial import Adversarial, AdversarialConfig, GameDraw
from metatrain.generators.objectives.augmentation import NUMBERS, augment
from metatrain.generators.objectives.sections import ALL
from metatrain.generators.samplers import LatentSamplerConfig, truncated
from metatrain.learning.inner.gradient import FirstOrder
from metatrain.learning.inner.gradient_field import GradientField
from metatrain.learning.inner.loop import InnerConfig, InnerLoop
from metatrain.learning.inner.rule import InnerRule
from metatrain.learning.inner.theta import Theta
from metatrain.learning.learners import LEARNERS
from metatrain.model.build import build_learner, build_theta

LOSSES = ("wgan-gp", "hinge", "non-saturating")
NETWORKS = ("resnet_gan", "fastgan")
A, W, V = "network.generator.A", "network.discriminator.W", "network.discriminator.v"
PIXELS, HIDDEN = 4, 5


class Small(AdversarialNetwork):
    """G(z) = A z and D(x) = v . tanh(W x), of 2 x 2 pixels."""

    Config = Section

    def __init__(self):
        super().__init__(Section(), (1, 2, 2))
        noise = torch.Generator().manual_seed(1)

        def weight(*shape):
            value = torch.randn(shape, generator=noise, dtype=torch.float64)
            return nn.Parameter(value / shape[-1] ** 0.5)

        self.generator, self.discriminator = nn.Module(), nn.Module()
        self.generator.set_encoder = None
        self.generator.A = weight(PIXELS, LATENT)
        self.discriminator.W, self.discriminator.v = weight(HIDDEN, PIXELS), weight(HIDDEN)

    def generate(self, latents, condition):
        return (latents @ self.generator.A.T).view(-1, 1, 2, 2)

    def discriminate(self, images, condition):
        hidden = (images.flatten(1) @ self.discriminator.W.T).tanh()
        return Judgement((hidden @ self.discriminator.v)[:, None], ())


def game(**settings):
    objective = Adversarial(AdversarialConfig(**settings), (1, 2, 2))
    generator = Generator(Small(), objective, Identity(IdentityConfig()))
    return Theta(generator, InnerRule())


def episode(side=2, channels=1, dtype=torch.float64):
    noise = torch.Generator().manual_seed(3)
    images = 2 * torch.rand(7, channels, side, side, generator=noise, dtype=dtype) - 1
    return Episode("task", *Examples(images).split(4), 5)


def reference(loss, penalty, w, draw):
    """Return the losses of the generator and of the discriminator, written out."""
    real, fake = draw.real.flatten(1), draw.latents @ w[A].T

    def judge(x):
        return (x @ w[W].T).tanh() @ w[V]

    def slope(x):
        return ((1 - (x @ w[W].T).tanh() ** 2) * w[V]) @ w[W]

    d_real, d_fake = judge(real), judge(fake)
    if loss == "wgan-gp":
        share = draw.mixing[:, None]
        lengths = slope(share * real + (1 - share) * fake).norm(dim=1)
        of_d = d_fake.mean() - d_real.mean() + penalty * ((lengths - 1) ** 2).mean()
        return -d_fake.mean(), of_d
    r1 = penalty / 2 * (slope(real) ** 2).sum(dim=1).mean()
    if loss == "hinge":
        of_d = (1 - d_real).clamp(min=0).mean() + (1 + d_fake).clamp(min=0).mean()
        return -d_fake.mean(), of_d + r1
    of_d = -d_real.sigmoid().log().mean() - (1 - d_fake.sigmoid()).log().mean()
    return -d_fake.sigmoid().log().mean(), of_d + r1


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_gradients_are_those_written_out(loss):
    theta = game(loss=loss, penalty=3.0, augment=())
    weights, draw = theta.copy(), theta.generator.prepare(episode().whole_batch())
    leaves = {name: p.clone().requires_grad_() for name, p in weights.items()}
    for term, expected in enumerate(reference(loss, 3.0, leaves, GameDraw(*draw))):
        value, gradient = GradientField(theta).gradient_of(term, weights, tuple(weights), draw)
        torch.testing.assert_close(value, expected.detach(), rtol=0, atol=1e-10)
        slopes = torch.autograd.grad(
            expected, list(leaves.values()), materialize_grads=True, retain_graph=True
        )
        assert_same(gradient, dict(zip(leaves, slopes, strict=True)))


def test_the_usual_settings_of_each_game():
    usual = {
        loss: (config.penalty_weight, config.augmentations)
        for loss in LOSSES
        for config in [AdversarialConfig(loss=loss)]
    }
    assert usual == {"wgan-gp": (10, ()), "hinge": (1, ()), "non-saturating": (0, ALL)}


@pytest.mark.parametrize("gradient", ["adjoint", "unrolled"])
def test_maml_on_the_hinge_game_is_the_derivative_through_every_update(gradient):
    theta = game(loss="hinge", penalty=0.0, d_steps=2)
    inner = InnerLoop(theta, InnerConfig(steps=2, lr=0.1, optimizer="sgd"), gradient=gradient)
    kind, start = LEARNERS["maml"], theta.copy()
    outer = kind(kind.Config(), inner).episode_gradient(start, episode(), 0)

    leaves = {name: p.clone().requires_grad_() for name, p in start.items()}
    w = dict(leaves)
    for number in range(6):
        of_g, of_d = reference("hinge", 0.0, w, draw_of(theta, episode().support_batch(number)))
        names, term = ((A,), of_g) if number % 3 == 2 else ((W, V), of_d)
        # At copies, since both players depend on each other's past.
        copies = {name: w[name].clone() for name in names}
        terms = reference("hinge", 0.0, w | copies, draw_of(theta, episode().support_batch(number)))
        term = terms[0] if names == (A,) else terms[1]
        slopes = torch.autograd.grad(term, list(copies.values()), create_graph=True)
        w |= {n: w[n] - 0.1 * slope for n, slope in zip(names, slopes, strict=True)}
    of_g, of_d = reference("hinge", 0.0, w, draw_of(theta, episode().query_batch()))
    [first] = torch.autograd.grad(of_g, [leaves[A]], retain_graph=True)
    second = torch.autograd.grad(of_d, [leaves[W], leaves[V]])
    assert_same(outer.gradient, {A: first, W: second[0], V: second[1]})


def draw_of(theta, batch):
    return GameDraw(*theta.generator.prepare(batch))


@pytest.mark.parametrize("learner", ["maml", "anil"])
def test_a_penalty_inside_is_not_differentiated_thrice(learner):
    config = load_config(None, [*settings("resnet_gan"), f"learner.name={learner}"])
    with pytest.raises(UserError, match=r"derivative inside.*objective\.penalty=0"):
        build_learner(config, build_theta(config))


def test_a_penalty_keeps_weights_whole():
    sharded = ["cluster.zero_stage=3", "cluster.inner_loop=sharded"]
    with pytest.raises(UserError, match="derivative inside objective adversarial"):
        load_config(None, [*settings("resnet_gan"), *sharded])
    load_config(None, [*settings("resnet_gan", "objective.penalty=0"), *sharded])


def settings(network, *others, side=8):
    return [
        f"generator.name={network}",
        "generator.width=8",
        f"data.image_size={side}",
        "objective.name=adversarial",
        "objective.loss=hinge",
        "inner.optimizer=sgd",
        "inner.steps=2",
        *others,
    ]


def built(network, *others, side=8):
    return build_theta(load_config(None, settings(network, *others, side=side)))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_network_has_the_gradient_that_differences_give(network, loss):
    every = (
        "generator.support=true",
        f"objective.loss={loss}",
        "objective.penalty=2",
        "objective.augment=[colour,translation,cutout]",
    )
    theta = built(network, *every).double()
    draw = theta.generator.prepare(episode(8).whole_batch())
    field, weights = GradientField(theta), theta.copy()
    noise = torch.Generator().manual_seed(2)
    for term, names in theta.by_term(weights):
        _, gradient = field.gradient_of(term, weights, names, draw)
        direction = {
            n: torch.randn(weights[n].shape, generator=noise, dtype=torch.float64) for n in names
        }
        ahead, behind = (
            field.loss(weights | {n: weights[n] + e * d for n, d in direction.items()}, draw, term)
            for e in (1e-7, -1e-7)
        )
        expected = (ahead - behind) / 2e-7
        torch.testing.assert_close(field.dot(direction, gradient), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("network", NETWORKS)
def test_steps_in_place_are_those_of_the_function(network, loss):
    """Gradients of a penalty are laid out in another order than the weights are."""
    theta = built(network, f"objective.loss={loss}", "objective.penalty=1").double()
    inner = InnerLoop(theta, InnerConfig(steps=2, lr=1e-3, optimizer="adam"))
    start, batch = theta.copy(), episode(8).support_batch
    *_, last = inner.trace(start, batch, 1e-3, FirstOrder(inner.field))
    inner.adapt(start, batch, 1e-3)
    assert_same(inner.phi(), last.phi, 1e-7)


@pytest.mark.parametrize("network", NETWORKS)
def test_losses_are_means_of_shares(network):
    """Engines that share out the images of a step rely on it."""
    theta = built(network, "generator.support=true", "objective.loss=wgan-gp").double()
    generator = theta.generator
    draw = generator.prepare(episode(8).whole_batch())
    for term in range(2):
        first, last = (
            generator(*generator.objective.share(draw, rows), term=term)
            for rows in (slice(0, 3), slice(3, 7))
        )
        whole = generator(*draw, term=term)
        torch.testing.assert_close((3 * first + 4 * last) / 7, whole, rtol=0, atol=1e-10)


@pytest.mark.parametrize("network", NETWORKS)
def test_tasks_side_by_side_have_the_gradient_of_one_after_the_other(network):
    overrides = ("inner.scope.name=head", "objective.loss=wgan-gp", "learner.name=fomaml")
    gradients = []
    for at_once in (1, 2):
        config = load_config(
            None, [*settings(network, *overrides), f"meta.tasks_at_once={at_once}"]
        )
        theta = build_theta(config).double()
        learner = build_learner(config, theta)
        gradients.append(learner.outer_gradient(theta.copy(), [episode(8)] * 2, 0).gradient)
    assert_same(gradients[1], gradients[0])


@pytest.mark.parametrize("network", NETWORKS)
def test_players_see_the_support_except_the_image_itself(network):
    theta = built(network, "generator.support=true")
    generator = theta.generator
    support = episode(8, dtype=torch.float32).support

    def judged(target):
        draw = GameDraw(
            *generator.prepare(Episode("", Examples(target), support, 0).support_batch())
        )
        condition = generator.network.condition(draw.support, draw.visible)
        fake = generator.network.generate(draw.latents, condition)
        return fake, generator.network.discriminate(support.target, condition).logits

    other = support.target.clone()
    other[0] *= -1
    for before, after in zip(judged(support.target), judged(other), strict=True):
        assert torch.equal(before[0], after[0])
        assert not torch.allclose(before[1:], after[1:], rtol=0, atol=1e-6)


def test_augmentation_is_a_function_of_its_numbers_alone():
    numbers = torch.rand(3, NUMBERS, generator=torch.Generator().manual_seed(0))
    images = episode(8, channels=3).support.target[:3]
    whole = augment(images, numbers, ALL)
    rows = [augment(images[i : i + 1], numbers[i : i + 1], ALL) for i in range(3)]
    assert torch.equal(whole, torch.cat(rows))
    assert torch.equal(augment(images, numbers, ()), images)
    for image, (b, s, c, y, x, cy, cx), ours in zip(
        images.numpy(), numbers.double().numpy(), whole.numpy(), strict=True
    ):
        np.testing.assert_allclose(ours, augmented(image, b, s, c, y, x, cy, cx), atol=1e-12)


def augmented(image, brightness, saturation, contrast, y, x, cut_y, cut_x):
    """Augment one image [C, H, W], by loops over its pixels."""
    image = image + brightness - 0.5
    grey = image.mean(axis=0)
    image = grey + 2 * saturation * (image - grey)
    image = image.mean() + (0.5 + contrast) * (image - image.mean())
    size, most = image.shape[1], 1
    dy, dx = (int(u * (2 * most + 1)) - most for u in (y, x))
    top, left = (int(u * (size + 1)) - size // 4 for u in (cut_y, cut_x))
    result = np.zeros_like(image)
    for i in range(size):
        for j in range(size):
            cut = top <= i < top + size // 2 and left <= j < left + size // 2
            if not cut and 0 <= i + dy < size and 0 <= j + dx < size:
                result[:, i, j] = image[:, i + dy, j + dx]
    return result


def test_truncated_latents_keep_their_order_and_their_bound():
    latents = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    inside = truncated(latents, LatentSamplerConfig(truncation=0.7))
    assert inside.abs().max() <= 0.7
    assert torch.equal(inside.argsort(), latents.argsort())
    # A truncated normal distribution's standard deviation at 0.7, from its closed form.
    assert inside.std() == pytest.approx(0.3924, abs=0.02)
    assert torch.equal(truncated(latents, LatentSamplerConfig()), latents)


@pytest.mark.parametrize(("network", "side"), [("resnet_gan", 30), ("fastgan", 36)])
def test_a_size_that_players_cannot_make_is_refused(network, side):
    with pytest.raises(UserError, match=f"examples, {side} .*choose 16, 28, 32 or 64"):
        built(network, side=side)


def test_a_game_needs_two_players():
    with pytest.raises(UserError, match=r"such as generator\.name=resnet_gan, not UNet; choose"):
        build_theta(load_config(None, ["objective.name=adversarial"]))


@pytest.mark.parametrize("scope", ["film", "lora", "head", "context"])
def test_scopes_move_parts_of_both_players(scope):
    theta = built("resnet_gan", f"inner.scope.name={scope}")
    inner = InnerLoop(theta, InnerConfig(steps=1, scope={"name": scope}))
    players = {name.split(".")[1] for name in inner.scope}
    assert players == {"film": {"generator"}, "context": {"context"}}.get(
        scope, {"generator", "discriminator"}
    )
    inner.adapt(theta.copy(), episode(8, dtype=torch.float32).support_batch, 0.1)
