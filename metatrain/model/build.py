"""From a configuration to its parts."""

from collections.abc import Sequence
from functools import cache, partial
from typing import TypeVar

import torch

from metatrain.base.device import free_device_memory
from metatrain.base.parameters import Parameters
from metatrain.config import Config
from metatrain.data.episodes import Episode
from metatrain.generators import CODECS, GENERATORS, OBJECTIVES, Generator
from metatrain.learning.gradient_choice import Choice, GradientMethod, choose, graph_bytes
from metatrain.learning.inner.loop import InnerLoop
from metatrain.learning.inner.registry import SCOPES
from metatrain.learning.inner.stack import StackedInnerLoop
from metatrain.learning.inner.theta import Theta
from metatrain.learning.learners import LEARNERS, Learner
from metatrain.learning.learners.maml import MAML
from metatrain.learning.learners.stacked import Stacked
from metatrain.model.filling import filling

Loop = TypeVar("Loop", bound=InnerLoop)


def build_generator(config: Config) -> Generator:
    """Make a new generator with random weights that `config.seed` alone decides."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return _generator(config)


def build_theta(config: Config) -> Theta:
    """Make the meta-parameters, with random values that `config.seed` alone decides.

    What a scope or a learner adds to the meta-parameters is in them, and so the engine, the
    average and checkpoints hold it without knowing.
    """
    with filling(partial(_theta, config)):
        return _theta(config)


def _theta(config: Config) -> Theta:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        generator, scope = _generator(config), SCOPES[config.inner.scope.name]
        parameters = dict(generator.named_parameters())
        moved: Parameters = {name: parameters[name] for name in scope.names(generator)}
        rule = LEARNERS[config.learner.name].rule
        return Theta(generator, rule(config.learner, config.inner, moved))


def _generator(config: Config) -> Generator:
    codec = CODECS[config.codec.name](config.codec)
    shape = codec.shape(config.data.channels, config.data.image_size)
    network = GENERATORS[config.generator.name](config.generator, shape)
    objective = OBJECTIVES[config.objective.name](config.objective, shape)
    generator = Generator(network, objective, codec)
    SCOPES[config.inner.scope.name].install(generator, config.inner.scope)
    return generator


def build_learner(config: Config, theta: Theta) -> Learner:
    """Make the configured learner, whose inner loop works in the generator of `theta`.

    Raises:
        UserError: when the learner has no meaning for the objective.
    """
    kind, at_once = LEARNERS[config.learner.name], config.meta.tasks_at_once
    learner = kind(config.learner, _inner_loop(InnerLoop, config, theta))
    if at_once == 1:
        return learner
    stacking = kind(config.learner, _inner_loop(StackedInnerLoop, config, theta))
    return Stacked(stacking, learner, int(at_once))


def _inner_loop(kind: type[InnerLoop], config: Config, theta: Theta) -> InnerLoop:
    return kind(
        theta,
        config.inner,
        gradient=config.meta.gradient,
        hvp=config.meta.hvp,
        proximity=LEARNERS[config.learner.name].proximity(config.learner),
    )


def choose_method(config: Config, theta: Parameters, episodes: Sequence[Episode]) -> Choice:
    """Resolve `auto` for this learner, generator and machine, by trying each method.

    Args:
        config: the configuration, with `auto` for `meta.gradient` or `meta.tasks_at_once`.
        theta: meta-parameters to try with, on the device that will be used.
        episodes: a worker's share of a meta-batch to try with, on the same device.
    """
    device = next(iter(theta.values())).device
    place = build_theta(config).to(device)

    def learner(method: GradientMethod) -> Learner:
        return build_learner(with_method(config, method), place)

    def graph() -> int:
        inner = learner(GradientMethod("adjoint", 1)).inner
        return graph_bytes(inner, theta, episodes[0].support_batch)

    methods, step = _methods(config, len(episodes)), cache(graph)
    steps = config.inner.steps
    return choose(
        methods,
        # As late as can be, when every annealing is over.
        lambda method: learner(method).outer_gradient(theta, episodes, config.meta.steps),
        lambda method: step() * method.tasks_at_once * (steps if method.unrolled else 1),
        # Half, since theta and the optimiser want theirs; workers on CPUs share it.
        free_device_memory(device) // (2 if device.type == "cuda" else 2 * config.cluster.workers),
    )


def with_method(config: Config, method: GradientMethod) -> Config:
    """Let `config` compute its outer gradients by `method`."""
    return config.model_copy(update={"meta": config.meta.model_copy(update=method._asdict())})


def _methods(config: Config, episodes: int) -> list[GradientMethod]:
    """List the methods to choose from, those that need the least memory first."""
    kind, meta = LEARNERS[config.learner.name], config.meta
    gradients, counts = [meta.gradient], [meta.tasks_at_once]
    if meta.gradient == "auto":
        gradients = ["adjoint", "unrolled"] if issubclass(kind, MAML) else ["adjoint"]
    if meta.tasks_at_once == "auto":
        counts = [1, episodes] if episodes > 1 else [1]
    return [GradientMethod(gradient, int(count)) for gradient in gradients for count in counts]


def build_adaptation(config: Config, theta: Theta, kind: type[Loop] = InnerLoop) -> Loop:
    """Make the inner loop after meta-training, with the steps of `config.adapt`."""
    test_time = {"steps": config.adapt.steps, "compile": False, "precision": "fp32"}
    proximity = LEARNERS[config.learner.name].proximity(config.learner)
    return kind(theta, config.inner.model_copy(update=test_time), proximity=proximity)


def adaptation_lr(config: Config, theta: Theta) -> float:
    """Return the inner rate after meta-training; rates that were learned hold as they are."""
    learned = any(True for _ in theta.inner_rule.parameters())
    return config.inner.lr_at(config.meta.steps) if learned else config.adapt.lr
