"""A run's state as named tensors, 'part/name', and back."""

from collections.abc import Mapping
from math import prod

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters
from metatrain.config import Config
from metatrain.training.checkpoint.index import TensorRecord
from metatrain.training.checkpoint.reading import Checkpoint
from metatrain.training.checkpoint.writing import Draft
from metatrain.training.fragments import Fragment, fragment_of
from metatrain.training.partition import Partition, Slice, StateParts, shapes_of
from metatrain.training.state import TrainState

_MEMORY, _REPLAY = "by_task", "replay"


def draft_of(
    state: TrainState,
    config: Config,
    partitions: StateParts | None = None,
    snapshots: Mapping[str, str] | None = None,
) -> Draft:
    """Copy one worker's part of a state to the host, to be written.

    Args:
        state: its local state.
        config: the run's configuration.
        partitions: the engine's, see `Engine.partitions`; by default one worker has everything.
        snapshots: see `Draft`.
    """
    return Draft(
        step=state.step,
        config=config,
        history=list(state.history),
        window=list(state.window),
        fragments=[
            fragment._replace(values=fragment.values.to("cpu", copy=True))
            for fragment in _fragments(state, partitions or _whole(state))
        ],
        snapshots=dict(snapshots or {}),
    )


def _whole(state: TrainState) -> StateParts:
    whole = Partition.whole(shapes_of(state.parameters))
    return StateParts(theta=whole, memory=whole)


def _fragments(state: TrainState, partitions: StateParts) -> list[Fragment]:
    """Return this worker's share of the tensors, since other workers may keep the same slices."""
    theta: list[Fragment] = []
    memory: list[Fragment] = []
    rest: list[Fragment] = []
    for name, tensor in sorted(_tensors(state).items()):
        parameter = _parameter(name)
        if name.startswith(f"{_REPLAY}/"):  # whole on every worker, as its memory then is
            memory.append(fragment_of(name, tensor))
        elif name.startswith(f"{_MEMORY}/"):
            memory.append(partitions.memory.fragment(name, parameter, tensor))
        elif parameter in partitions.theta.slices:
            theta.append(partitions.theta.fragment(name, parameter, tensor))
        else:  # such as the optimiser's count of steps, which the first worker alone has
            rest.append(fragment_of(name, tensor))
    return [*partitions.theta.share(theta), *partitions.memory.share(memory), *rest]


def state_of(checkpoint: Checkpoint, partitions: StateParts | None = None) -> TrainState:
    """Read a run's state, or one worker's local state.

    Args:
        checkpoint: holds the state.
        partitions: the engine's, see `Engine.partitions`; everything by default. Only files with
            slices that these have are read.

    Raises:
        DamagedError: when one of them is not as it was written.
        UserError: when the storage cannot be reached, or theta is not shaped as `partitions` say.
    """
    records = checkpoint.index.tensors
    if partitions:
        _check_shapes(checkpoint, partitions.theta)
    slices = {name: _slice(name, record, partitions) for name, record in records.items()}
    tensors = {
        name: values.reshape(records[name].shape) if slices[name] == _all(records[name]) else values
        for name, values in checkpoint.slices(slices).items()
    }

    def part(name: str) -> Parameters:
        return {n.partition("/")[2]: t for n, t in tensors.items() if n.startswith(f"{name}/")}

    return TrainState(
        step=checkpoint.step,
        parameters=part("parameters"),
        average=part("average"),
        optimizer=part("optimizer"),
        history=checkpoint.index.history,
        by_task=_trees(part(_MEMORY)),
        replay=part(_REPLAY),
        tracks=_trees(part("tracks")),
        window=checkpoint.index.window,
    )


def _check_shapes(checkpoint: Checkpoint, partition: Partition) -> None:
    prefix = "parameters/"
    records = checkpoint.index.tensors.items()
    shapes = {n.removeprefix(prefix): r.shape for n, r in records if n.startswith(prefix)}
    if shapes != partition.shapes:
        odd = sorted(name for name, _ in shapes.items() ^ dict(partition.shapes).items())
        raise UserError(
            f"{checkpoint.folder} has other parameters than this metatrain's generator, such as "
            f"{odd[0]}; resume with the metatrain that wrote it, or choose another run.name."
        )


def _slice(name: str, record: TensorRecord, partitions: StateParts | None) -> Slice:
    if partitions is None:
        return _all(record)
    partition = partitions.memory if name.startswith(f"{_MEMORY}/") else partitions.theta
    return partition.slices.get(_parameter(name), _all(record))


def _all(record: TensorRecord) -> Slice:
    return (0, prod(record.shape))


def _parameter(name: str) -> str:
    """Return the name of theta's tensor that a tensor of the state is shaped like.

    Tasks' names may have slashes, those of theta's tensors have none. An optimiser's tensor that is
    shaped like none of them, such as its count of steps, has the name of none.
    """
    part, _, rest = name.partition("/")
    return rest.rpartition("/")[0 if part == "optimizer" else 2]


def _tensors(state: TrainState) -> Parameters:
    parts = {
        "parameters": state.parameters,
        "average": state.average,
        "optimizer": state.optimizer,
        _MEMORY: _flat(state.by_task),
        _REPLAY: state.replay,
        "tracks": _flat(state.tracks),
    }
    return {f"{part}/{name}": t for part, tree in parts.items() for name, t in tree.items()}


def _flat(trees: dict[str, Parameters]) -> Parameters:
    return {f"{key}/{name}": p for key, tree in trees.items() for name, p in tree.items()}


def _trees(flat: Parameters) -> dict[str, Parameters]:
    """Return trees by task from tensors by 'task/parameter'."""
    trees: dict[str, Parameters] = {}
    for name, tensor in flat.items():
        task, _, parameter = name.rpartition("/")
        trees.setdefault(task, {})[parameter] = tensor
    return trees
