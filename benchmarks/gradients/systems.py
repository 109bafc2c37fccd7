"""Systems by name: bounds, peers, and our learners in all their modes."""

from benchmarks.gradients.bounds import BOUNDS, bound
from benchmarks.gradients.cases import Case, System
from benchmarks.gradients.peers import installed, peer
from metatrain.base.parameters import Parameters
from metatrain.learning.learners import LEARNERS

FIRST_ORDER = ("reptile", "fomaml", "joint", "mtl", "admm")
MODES = {
    "unrolled": ["meta.gradient=unrolled"],
    "adjoint": ["meta.gradient=adjoint", "meta.hvp=double_backward"],
    "compiled": ["meta.gradient=adjoint", "meta.hvp=compiled"],
    "difference": ["meta.gradient=adjoint", "meta.hvp=difference"],
}


def names() -> list[str]:
    """List `bound/*`, the peers, and ours: a learner, or learner/mode for second order."""
    ours = [
        name if name in FIRST_ORDER else f"{name}/{mode}"
        for name in LEARNERS
        for mode in (MODES if name not in FIRST_ORDER else ("",))
        if (name, mode) != ("imaml", "unrolled")  # never differentiates inner steps
    ]
    return [*(f"bound/{name}" for name in BOUNDS), *installed(), *ours]


def system(name: str, case: Case) -> System:
    """Prepare the system `name` to run on `case`."""
    kind, _, mode = name.partition("/")
    if kind == "bound":
        return bound(mode, case)
    if name in installed():
        return peer(name, case)
    learner, episodes = case.learner(kind, MODES.get(mode, ())), case.episodes()
    theta = learner.inner.theta.copy()

    def run() -> Parameters:
        # Late in training, when the annealing of MAML++ is over.
        return learner.outer_gradient(theta, episodes, step=10_000).gradient

    return run


def bound_of(name: str) -> str:
    """Name the bound that `name` is compared with."""
    same_work = {"joint": "joint", "mtl": "joint", "reptile": "reptile", "admm": "reptile"}
    return f"bound/{same_work.get(name, 'fomaml')}"
