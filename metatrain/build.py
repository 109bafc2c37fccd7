"""From a configuration to its parts."""

import torch

from metatrain.config import Config
from metatrain.episodes import Episode
from metatrain.generators import GENERATORS, Generator
from metatrain.inner.choice import Choice, choose
from metatrain.inner.loop import InnerLoop
from metatrain.inner.scopes import SCOPES
from metatrain.learners import LEARNERS, Learner
from metatrain.learners.maml import MAML
from metatrain.parameters import Parameters


def build_generator(config: Config) -> Generator:
    """A new generator with random weights that `config.seed` alone decides.

    Its parameters are theta: what a scope or a learner adds to the meta-parameters is in here, and
    so the engine, the average and checkpoints hold it without knowing.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        kind, scope = GENERATORS[config.generator.name], SCOPES[config.inner.scope.name]
        generator = kind(config.generator, config.data.image_size, config.data.channels)
        scope.install(generator, config.inner.scope)
        parameters = dict(generator.named_parameters())
        moved: Parameters = {name: parameters[name] for name in scope.names(generator)}
        rule = LEARNERS[config.learner.name].rule
        generator.inner_rule = rule(config.learner, config.inner, moved)
    return generator


def build_learner(config: Config, generator: Generator) -> Learner:
    """The configured learner, whose inner loop will work in `generator`.

    Raises:
        UserError: when the generator has BatchNorm.
    """
    kind = LEARNERS[config.learner.name]
    inner = InnerLoop(
        generator,
        config.inner,
        gradient=config.meta.gradient,
        hvp=config.meta.hvp,
        proximity=kind.proximity(config.learner),
    )
    return kind(config.learner, inner)


def choose_gradient(config: Config, theta: Parameters, episode: Episode) -> Choice:
    """What `meta.gradient=auto` comes to for this learner, generator and machine, by trying.

    Args:
        config: the configuration.
        theta: meta-parameters to try with, on the device that will be used.
        episode: an episode to try with, on the same device.
    """
    generator = build_generator(config).to(next(iter(theta.values())).device)

    def learner(gradient: str) -> Learner:
        meta = config.meta.model_copy(update={"gradient": gradient})
        return build_learner(config.model_copy(update={"meta": meta}), generator)

    trial = learner("adjoint")
    if not isinstance(trial, MAML):
        return Choice("adjoint", f"{config.learner.name} does not go back through inner steps")
    return choose(
        lambda gradient: learner(gradient).episode_gradient(theta, episode, config.meta.steps),
        trial.inner,
        theta,
        episode.support_batch,
        sharing=config.cluster.workers,
    )


def build_adaptation(config: Config, generator: Generator) -> InnerLoop:
    """The inner loop after meta-training, with the steps and the rate of `config.adapt`."""
    test_time = {"steps": config.adapt.steps, "lr": config.adapt.lr}
    proximity = LEARNERS[config.learner.name].proximity(config.learner)
    return InnerLoop(generator, config.inner.model_copy(update=test_time), proximity=proximity)
