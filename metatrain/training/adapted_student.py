"""The student of one adapted model, which draws as its teacher does, and adapts no more."""

from dataclasses import replace

import torch
from torch import Tensor

from metatrain.base.errors import MissingStepError
from metatrain.base.progress import tracked
from metatrain.config import Config
from metatrain.data.batch import Batch
from metatrain.data.examples import Examples, repeated_to
from metatrain.generators.objectives.flow import random_stream
from metatrain.model.build import build_theta
from metatrain.model.model import Model
from metatrain.training.average import MovingAverage
from metatrain.training.lessons import trajectories
from metatrain.training.outer_optimizer import outer_optimizer
from metatrain.training.schedule import learning_rate

# Trajectories of the teacher that the student learns from, so many at once.
_AT_ONCE, _BATCHES = 32, 16


def distilled(teacher: Model, config: Config) -> Model:
    """Train the student of an adapted model, with the outer optimiser of `config`.

    Args:
        teacher: the model.
        config: of the student; see `metatrain.training.distillation.student_config`.

    Raises:
        MissingStepError: when the teacher has not been adapted.
    """
    if teacher.support is None:
        raise MissingStepError("this model has not been adapted, and has no support.", step="adapt")
    theta = build_theta(config).load(teacher.parameters).to(teacher.device)
    generator, named = theta.generator.train(), theta.named()
    average = MovingAverage(theta.copy(), config.meta.ema)
    optimizer = outer_optimizer(config.meta, list(named.values()))
    lessons = _lessons(teacher, config)
    steps = range(config.meta.steps)
    for step in tracked("distilling", steps, len(steps)):
        batch = _batch(lessons[step % _BATCHES], teacher.support, config.seed, step)
        (loss,) = generator.losses(batch)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config.meta, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update({name: p.detach() for name, p in named.items()}, step)
    return replace(teacher, config=config, parameters=average.parameters)


def _lessons(teacher: Model, config: Config) -> list[Examples]:
    """Follow the teacher from as many noises as it takes."""
    generator, support = teacher.generator(), teacher.support
    assert support is not None
    given = {name: repeated_to(_AT_ONCE, c) for name, c in support.given.items()}
    shape, steps = (_AT_ONCE, *generator.objective.shape), config.objective.steps

    def lesson(number: int) -> Tensor:
        noise = torch.randn(shape, generator=random_stream(config.seed, number))
        return trajectories(generator, support, Examples(noise, given), steps)

    numbers = tracked("drawing", range(_BATCHES), _BATCHES)
    return [Examples(lesson(number), given, encoded=True) for number in numbers]


def _batch(lesson: Examples, support: Examples, seed: int, step: int) -> Batch:
    index = torch.full((len(lesson),), -1, device=support.target.device)
    return Batch(lesson, support, index, seed, step)
