"""A run's state as named tensors, 'part/name', and back."""

from metatrain.base.parameters import Parameters, host_copy
from metatrain.config import Config
from metatrain.model.file import Model
from metatrain.training.checkpoint.reading import Checkpoint
from metatrain.training.checkpoint.writing import ALONE, Draft, Peers
from metatrain.training.fragments import share_of
from metatrain.training.state import TrainState


def draft_of(state: TrainState, config: Config, peers: Peers = ALONE) -> Draft:
    """A worker's even part of a state that all workers have whole, copied to the host."""
    fragments = share_of(_tensors_of(state), peers.rank, peers.world)
    return Draft(
        state.step,
        config,
        list(state.history),
        list(state.window),
        [f._replace(values=f.values.to("cpu", copy=True)) for f in fragments],
        None if peers.rank else Model(config, host_copy(state.average), state.step),
    )


def state_of(checkpoint: Checkpoint) -> TrainState:
    """All of a run's state.

    Raises:
        DamagedError: when the checkpoint is not whole.
        UserError: when the storage cannot be reached.
    """
    tensors = checkpoint.tensors()

    def part(name: str) -> Parameters:
        return {n.partition("/")[2]: t for n, t in tensors.items() if n.startswith(f"{name}/")}

    return TrainState(
        checkpoint.step,
        part("parameters"),
        part("average"),
        part("optimizer"),
        checkpoint.index.history,
        _trees(part("by_task")),
        _trees(part("tracks")),
        checkpoint.index.window,
    )


def _tensors_of(state: TrainState) -> Parameters:
    parts = {
        "parameters": state.parameters,
        "average": state.average,
        "optimizer": state.optimizer,
        "by_task": _flat(state.by_task),
        "tracks": _flat(state.tracks),
    }
    return {f"{part}/{name}": t for part, tree in parts.items() for name, t in tree.items()}


def _flat(trees: dict[str, Parameters]) -> Parameters:
    return {f"{key}/{name}": p for key, tree in trees.items() for name, p in tree.items()}


def _trees(flat: Parameters) -> dict[str, Parameters]:
    """Back from 'task/parameter'; a task's name may have slashes, a parameter's has none."""
    trees: dict[str, Parameters] = {}
    for name, tensor in flat.items():
        task, _, parameter = name.rpartition("/")
        trees.setdefault(task, {})[parameter] = tensor
    return trees
