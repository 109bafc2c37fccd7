"""Model soups: one model whose parameters are the mean of several models'.

Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves
accuracy without increasing inference time".
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from metatrain.base.errors import UserError
from metatrain.combine.members import combined_step, load_members
from metatrain.config import Config, with_values
from metatrain.data.loader import open_tasks
from metatrain.evaluation.validation import validation_curves, validation_of
from metatrain.model.model import Model


def load_ingredients(urls: Sequence[str], *, trust: bool = False) -> dict[str, Model]:
    """Load the models at `urls`, whose parameters must have the same names and shapes.

    Raises:
        UserError: when they have not; see also `load_members`.
    """
    members = load_members(urls, trust=trust)
    first, *others = [
        (url, {name: p.shape for name, p in model.parameters.items()})
        for url, model in members.items()
    ]
    for url, shapes in others:
        if shapes != first[1]:
            raise UserError(
                f"the parameters of {url} differ from those of {first[0]}; give models of one "
                f"learner and one inner.scope."
            )
    return members


def uniform_soup(members: Mapping[str, Model]) -> Model:
    """Return the model with the mean of the members' parameters, theta = 1/M sum_i theta_i.

    It has the configuration of the first member, and is not adapted to anything.
    """
    models = list(members.values())
    mean = {
        name: torch.stack([model.parameters[name] for model in models]).mean(dim=0)
        for name in models[0].parameters
    }
    step = combined_step(members)
    return Model(models[0].config, mean, step, frozen=models[0].frozen)


def validation_kid(
    config: Config, data: str, network: str, tasks: int, known: Sequence[str] = ()
) -> Callable[[Model], float]:
    """Return a function from a model to its KID on validation tasks; lower is better.

    Args:
        config: the configuration that every model adapts with, as their soup will.
        data: URL of a packed data set, to whose tasks of the split val models adapt.
        network: URL of the metric network, which is trained if there is none.
        tasks: maximum number of tasks.
        known: further URLs where the metric network may be; see `metric_network`.

    Raises:
        UserError: when the data cannot be read, or fewer than two tasks have enough images.
    """
    where = {"data.path": data, "data.cache_dir": None, "validation.network": network}
    scored = with_values(config, {"validation.tasks": tasks, "validation.points": 1, **where})
    validation = validation_of(scored, open_tasks(scored.data), known)

    def kid(model: Model) -> float:
        [[scores]] = validation_curves([replace(model, config=scored)], validation)
        return scores.cost("kid")

    return kid


def greedy_soup(
    members: Mapping[str, Model],
    score: Callable[[Model], float],
    report: Callable[[str], None],
) -> Model:
    """Return the soup of those members that do not make it worse (recipe 1 of the paper).

    Starts with the best member; each further one joins if the soup's score does not become worse.

    Args:
        members: at least one model, by name.
        score: scores a model; lower is better.
        report: is called with every score, and with the reason for keeping a member or not.
    """
    scores = {}
    for name, model in members.items():
        scores[name] = score(model)
        report(f"{name} scores {scores[name]:.4f}")
    first, *others = sorted(members, key=lambda name: scores[name])
    kept, best = {first: members[first]}, scores[first]
    report(f"{first} is kept: it is the best member")
    for name in others:
        tried = {**kept, name: members[name]}
        new = score(uniform_soup(tried))
        verb = "kept" if new <= best else "left out"
        report(f"{name} is {verb}: with it the soup scores {new:.4f}, without it {best:.4f}")
        if new <= best:
            kept, best = tried, new
    return uniform_soup(kept)
