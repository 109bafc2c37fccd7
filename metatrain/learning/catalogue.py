"""The page of all learners, made of their docstrings so that it cannot drift.

python -m metatrain.learning.catalogue > docs/learners.md
"""

import inspect
import re
from typing import NamedTuple

from metatrain.learning.learners import LEARNERS, Learner

_INTRODUCTION = """\
# Learners

One line of configuration picks one: `learner.name=maml`. Each is one class in one file of
`metatrain/learning/learners/`, and turns an episode into an outer gradient g, which the engine
applies like any gradient. S support, Q query, L the generator's loss, U_k the k steps of the inner
loop, M episodes an outer step. `inner.optimizer` (sgd, momentum, adam) and
`inner.scope.name` (all, film, lora, head, body, context) combine with every learner that does not
say otherwise.

This page is made of the docstrings (`python -m metatrain.learning.catalogue > docs/learners.md`); a
test compares it with them.
"""

_SECOND_ORDER = """\
## Going back through the inner loop

`meta.gradient=adjoint` (the default) keeps the weights of every inner step and goes back by one
Hessian-vector product a step; memory hardly grows with k. `unrolled` keeps the graph of every step;
faster for few steps. `auto` predicts the graph's memory, times both on an episode where it fits,
says what it took and why, and stays with it when the run is resumed.

`meta.hvp` says how products are made: `double_backward` is exact; `compiled` is exact too and
compiles for minutes first; `difference` takes central differences of gradients, for what cannot be
differentiated twice, and logs its estimated error as `hvp_error`.

`meta.tasks_at_once=4` takes four tasks through one inner loop, each with fast weights of its own
over the network that they share: the same gradient, faster where the scope is small, in four times
the memory. `auto` measures whether it pays. `inner.compile=true` compiles first-order gradients.
[benchmarks-learners.md](benchmarks-learners.md) has what each of these costs.

## Auxiliary losses

`auxiliary.contrast` adds InfoNCE between the tasks of a meta-batch (van den Oord et al. 2018) on
what the set encoder sees of support and query, `auxiliary.masked` the denoising of hidden pixels.
Both are taken at theta and join the outer gradient of any learner, at any number of workers.
"""


class Entry(NamedTuple):
    """What a learner's docstring says of it."""

    title: str
    formula: str
    cost: str
    memory: str
    use: str


def entry_of(learner: type[Learner]) -> Entry:
    """The parts of a learner's docstring.

    Raises:
        ValueError: naming the part that is missing.
    """
    doc = inspect.cleandoc(learner.__doc__ or "")
    paragraphs = [" ".join(paragraph.split()) for paragraph in doc.split("\n\n")]
    formulas = [paragraph for paragraph in paragraphs if paragraph.startswith("g = ")]

    def part(name: str) -> str:
        found = re.search(
            rf"^{name}: (.+?)(?=^(?:Cost|Memory|Use): |\Z)", doc, re.MULTILINE | re.DOTALL
        )
        if not found:
            raise ValueError(f"the docstring of {learner.__name__} has no '{name}:'")
        return " ".join(found[1].split())

    if not formulas:
        raise ValueError(f"the docstring of {learner.__name__} has no formula 'g = ...'")
    return Entry(paragraphs[0], formulas[0], part("Cost"), part("Memory"), part("Use"))


def page() -> str:
    """The whole page, as Markdown."""
    rows = ["| learner | g | cost | memory | use |", "|---|---|---|---|---|"]
    papers = ["## Papers\n"]
    for name, learner in LEARNERS.items():
        entry = entry_of(learner)
        formula = entry.formula.removeprefix("g = ").replace("|", "\\|")
        rows.append(f"| `{name}` | `{formula}` | {entry.cost} | {entry.memory} | {entry.use} |")
        papers.append(f"- `{name}`: {entry.title}")
    return "\n".join([_INTRODUCTION, *rows, "", *papers, "", _SECOND_ORDER])


if __name__ == "__main__":
    print(page(), end="")
