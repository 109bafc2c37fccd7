"""The page of the built-in learners, generated from their docstrings so that the two agree.

python -m metatrain.learning.catalogue > docs/learners.md
"""

import inspect
import re
from typing import NamedTuple

from metatrain.learning.learners import LEARNERS, Learner

_INTRODUCTION = """\
# Learners

One line of configuration selects a learner: `learner.name=maml`. Each is a class in a file of
`metatrain/learning/learners/` that turns an episode into an outer gradient g, which the engine
applies like any gradient. S is the support, Q the query, L the generator's loss, U_k the k steps of
the inner loop, and M the number of episodes per outer step. Any `inner.optimizer` (sgd, momentum,
adam) and any `inner.scope.name` (all, film, norms, attention, lora, head, body, context) work with
every learner that does not fix its own.

This page is generated from the docstrings by
`python -m metatrain.learning.catalogue > docs/learners.md`; a test compares the two.
"""

_SECOND_ORDER = """\
## Differentiating through the inner loop

`meta.gradient=adjoint` (the default) keeps the weights of every inner step, and its backward pass
computes one Hessian-vector product per step; memory hardly grows with k. `unrolled` keeps the graph
of every step, and is faster for few steps. `auto` predicts the graph's memory, times both methods
on an episode if it fits, logs its choice and the reason, and keeps the choice when the run is
resumed.

`meta.hvp` selects the method for the products: `double_backward` is exact; `compiled` is exact too,
and compiles for minutes first; `difference` takes central differences of gradients, for networks
that cannot be differentiated twice, and logs its estimated error as `hvp_error`.

`meta.tasks_at_once=4` runs one inner loop for four tasks, each with its fast weights over the
network that they share: the same gradient, faster for small scopes, in four times the memory.
`auto` measures whether it pays. `inner.compile=true` compiles first-order gradients.
[benchmarks-learners.md](benchmarks-learners.md) reports the cost of each.

## Auxiliary losses

`auxiliary.contrast` adds InfoNCE between the tasks of a meta-batch (van den Oord et al. 2018) on
the set encoder's embeddings of support and query; `auxiliary.masked` adds the denoising of hidden
pixels. Both are computed at theta and added to the outer gradient of any learner, on any number of
workers.
"""


class LearnerPage(NamedTuple):
    """The parts of a learner's docstring."""

    title: str
    formula: str
    cost: str
    memory: str
    use: str


def entry_of(learner: type[Learner]) -> LearnerPage:
    """Parse a learner's docstring.

    Raises:
        ValueError: naming the part that is missing.
    """
    doc = inspect.cleandoc(learner.__doc__ or "")
    paragraphs = [" ".join(paragraph.split()) for paragraph in doc.split("\n\n")]
    formulas = [paragraph for paragraph in paragraphs if paragraph.startswith("g = ")]

    def part(name: str) -> str:
        match = re.search(
            rf"^{name}: (.+?)(?=^(?:Cost|Memory|Use): |\Z)", doc, re.MULTILINE | re.DOTALL
        )
        if not match:
            raise ValueError(f"the docstring of {learner.__name__} has no '{name}:'")
        return " ".join(match[1].split())

    if not formulas:
        raise ValueError(f"the docstring of {learner.__name__} has no formula 'g = ...'")
    return LearnerPage(paragraphs[0], formulas[0], part("Cost"), part("Memory"), part("Use"))


def page() -> str:
    """Render the page of the built-in learners as Markdown."""
    rows = ["| learner | g | cost | memory | use |", "|---|---|---|---|---|"]
    papers = ["## Papers\n"]
    for name in LEARNERS.built_in:
        entry = entry_of(LEARNERS[name])
        formula = entry.formula.removeprefix("g = ").replace("|", "\\|")
        rows.append(f"| `{name}` | `{formula}` | {entry.cost} | {entry.memory} | {entry.use} |")
        papers.append(f"- `{name}`: {entry.title}")
    return "\n".join([_INTRODUCTION, *rows, "", *papers, "", _SECOND_ORDER])


if __name__ == "__main__":
    print(page(), end="")
