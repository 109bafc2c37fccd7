"""Model soups: one model whose parameters are the mean of several models'.

Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves
accuracy without increasing inference time".
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from metatrain.base.errors import UserError
from metatrain.combine.members import load_members, steps_behind
from metatrain.config import Config, with_values
from metatrain.data.loader import open_tasks
from metatrain.evaluation.validation import Validated, curves_of, validation_of
from metatrain.model.file import Model


def load_ingredients(urls: Sequence[str]) -> dict[str, Model]:
    """The models at `urls`, whose parameters have the same names and shapes.

    Raises:
        UserError: when they have not, and as `load_members`.
    """
    members = load_members(urls)
    first, *others = [
        (url, {name: p.shape for name, p in model.parameters.items()})
        for url, model in members.items()
    ]
    for url, shapes in others:
        if shapes != first[1]:
            raise UserError(
                f"the parameters of {url} are not those of {first[0]}; give models of one learner "
                f"and one inner.scope."
            )
    return members


def uniform_soup(members: Mapping[str, Model]) -> Model:
    """The mean of the members' parameters, theta = 1/M sum_i theta_i; not adapted to anything.

    Its configuration is the first one's.
    """
    models = list(members.values())
    mean = {
        name: torch.stack([model.parameters[name] for model in models]).mean(dim=0)
        for name in models[0].parameters
    }
    return Model(models[0].config, mean, steps_behind(members))


def kid_of(config: Config, data: str, network: str, tasks: int) -> Callable[[Model], float]:
    """How good models are that adapt as `config` says, as their soup will: KID, lower is better.

    Args:
        config: the first model's.
        data: URL of a packed data set, to whose tasks of the split val models adapt.
        network: URL of the metric network, which is trained where there is none.
        tasks: how many tasks at most.

    Raises:
        UserError: when the data cannot be read, or fewer than two tasks have images enough.
    """
    where = {"data.path": data, "validation.network": network}
    asked = with_values(config, {"validation.tasks": tasks, "validation.points": 1, **where})
    validation = validation_of(asked, open_tasks(asked.data))

    def score(model: Model) -> float:
        [curve] = curves_of([replace(model, config=asked)], validation)
        [found] = Validated(model.step, curve).by_k("kid").values()
        return found

    return score


def greedy_soup(
    members: Mapping[str, Model],
    score: Callable[[Model], float],
    say: Callable[[str], None],
) -> Model:
    """The soup of those members that do it no harm (recipe 1 of the paper).

    From the best member on, each joins if the soup does not become worse.

    Args:
        members: at least one, by name.
        score: of a model; lower is better.
        say: told of every score, and why a member was kept or left out.
    """
    scores = {}
    for name, model in members.items():
        scores[name] = score(model)
        say(f"{name} scores {scores[name]:.4f}")
    first, *others = sorted(members, key=lambda name: scores[name])
    kept, best = {first: members[first]}, scores[first]
    say(f"{first} is kept: the best of all")
    for name in others:
        tried = {**kept, name: members[name]}
        found = score(uniform_soup(tried))
        if found <= best:
            say(f"{name} is kept: with it the soup scores {found:.4f}, without {best:.4f}")
            kept, best = tried, found
        else:
            say(f"{name} is left out: with it the soup scores {found:.4f}, without {best:.4f}")
    return uniform_soup(kept)
