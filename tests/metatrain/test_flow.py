import pytest
import torch

from metatrain.base.section import Section
from metatrain.config import load_config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.generators import Generator
from metatrain.generators.codecs.codec import Identity, IdentityConfig
from metatrain.generators.networks.velocity import VelocityNetwork
from metatrain.generators.objectives.flow import FlowConfig, FlowMatching, visible_support
from metatrain.generators.samplers import FlowSamplerConfig
from metatrain.model.build import build_generator


class Decay(VelocityNetwork):
    """dx/dt = -x, whose end from x is x / e."""

    Config = Section

    def encode(self, support):
        return support

    def velocity(self, x, t, memory, visible, given=None):
        return -x


class Guide(Decay):
    """Velocity 1 when the support is seen, and 0 when not."""

    def velocity(self, x, t, memory, visible, given=None):
        return visible.any(dim=1).to(x)[:, None, None, None].expand_as(x)


def flow(network, **sampler):
    """A generator of images [1, 4, 4], whose network is of that class."""
    config = FlowConfig(sampler=FlowSamplerConfig(**sampler))
    parts = network(Section(), (1, 4, 4)), FlowMatching(config, (1, 4, 4))
    return Generator(*parts, Identity(IdentityConfig()))


@pytest.fixture
def generator():
    config = load_config(None, ["data.image_size=8", "generator.width=8"])
    generator = build_generator(config).double()
    for parameter in generator.parameters():  # away from layers that start at zero
        parameter.data += 0.1 * torch.randn(parameter.shape, dtype=torch.float64)
    return generator


def episode():
    images = torch.rand(5, 1, 8, 8, dtype=torch.float64) * 2 - 1
    return Episode("task", *Examples(images).split(3), seed=5)


def test_no_image_is_shown_to_itself(generator):
    support = episode().support.target
    seen_by_first = torch.tensor([[False, True, True]])
    x, t = torch.randn(1, 1, 8, 8, dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
    before = generator.network.velocity(x, t, generator.network.encode(support), seen_by_first)
    changed = support.clone()
    changed[0] = -changed[0]
    assert torch.equal(
        before, generator.network.velocity(x, t, generator.network.encode(changed), seen_by_first)
    )
    changed[1] = -changed[1]
    assert not torch.equal(
        before, generator.network.velocity(x, t, generator.network.encode(changed), seen_by_first)
    )


def test_every_support_image_is_conditioned_on_the_others_and_the_query_on_all():
    whole = visible_support(episode().whole_batch())
    assert whole.tolist() == [
        [False, True, True],
        [True, False, True],
        [True, True, False],
        [True, True, True],
        [True, True, True],
    ]


def test_the_order_of_the_support_does_not_matter(generator):
    support = episode().support
    samples = generator.sample(support, 2, seed=0)
    reordered = generator.sample(Examples(support.target[[2, 0, 1]]), 2, seed=0)
    torch.testing.assert_close(samples, reordered)


def test_the_loss_is_a_function_of_the_weights_alone(generator):
    batch = episode().support_batch(noise_index=2)
    assert torch.equal(*generator.losses(batch), *generator.losses(batch))


def test_inner_steps_draw_afresh_unless_noise_is_shared(generator):
    def noise(noise_index, shared):
        generator.objective = FlowMatching(FlowConfig(shared_noise=shared), (1, 8, 8))
        return generator.prepare(episode().support_batch(noise_index))[1]

    assert torch.equal(noise(0, True), noise(1, True))
    assert not torch.equal(noise(0, False), noise(1, False))


def test_stratified_times_fill_every_stratum(generator):
    t = generator.prepare(episode().whole_batch())[2]
    assert sorted((t * 5).int().tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_samplers_converge_at_their_order(method, order):
    support = Examples(torch.zeros(1, 1, 4, 4, dtype=torch.float64))

    def error(steps):
        # Heun's last step is Euler's, since t = 1 is the end of the flow: look at a scale.
        samples = flow(Decay, method=method, steps=steps).sample(support, 3, seed=0)
        noise = torch.randn((3, 1, 4, 4), generator=torch.Generator().manual_seed(0))
        return (samples - (noise.double() / torch.e).clamp(-1, 1)).abs().max()

    assert error(64) / error(128) == pytest.approx(2**order, rel=0.1)


def test_guidance_extrapolates_from_the_unconditional_velocity():
    support = Examples(torch.zeros(1, 1, 4, 4))

    def end(guidance):
        """Where one step of the flow leads from noise, less the noise: the velocity."""
        settings = FlowSamplerConfig(method="euler", steps=1, guidance=guidance)
        noise = torch.randn((2, 1, 4, 4), generator=torch.Generator().manual_seed(0))
        objective = flow(Guide).objective
        network = Guide(Section(), (1, 4, 4))
        return (objective.sample(network, support, 2, 0, settings) - noise).mean().item()

    for guidance in (0.0, 1.0, 3.0):
        assert end(guidance) == pytest.approx(guidance, abs=1e-6)


@pytest.mark.parametrize("size", [28, 32, 48, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes_and_channels_from_28_to_64_pixels(size, channels):
    overrides = [f"data.image_size={size}", f"data.channels={channels}", "generator.width=8"]
    overrides += ["objective.sampler.steps=1"]
    generator = build_generator(load_config(None, overrides))
    support = torch.zeros(2, channels, size, size)
    samples = generator.sample(Examples(support), 3, seed=0)
    assert samples.shape == (3, channels, size, size)


def test_batchnorm_is_nowhere():
    generator = build_generator(load_config())
    assert not [
        m for m in generator.modules() if isinstance(m, torch.nn.modules.batchnorm._NormBase)
    ]
