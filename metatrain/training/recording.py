"""A constructor of tensors, recorded, so that they can be made one at a time.

A constructor fills its tensors one after the other from one stream of random numbers, and some of
them again at its end. Here it runs on tensors without values, and its operations are recorded. A
replay on real tensors gives the same numbers to the bit, but knows which operation completes a
tensor and which is the last to read it.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, UntypedStorage
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from metatrain.base.progress import Progress

# The former overwrite all of their first argument, of which the latter read only the shape.
_OVERWRITING = {f"aten::{name}_" for name in ("copy", "fill", "normal", "uniform", "zero")}
_SHAPED_ALIKE = {
    *(f"aten::{name}_like" for name in ("empty", "full", "ones", "rand", "randn", "zeros")),
    *(f"aten::new_{name}" for name in ("empty", "empty_strided", "full", "ones", "zeros")),
}


class _View(NamedTuple):
    """Description of a tensor: the number of its storage, and its layout in there."""

    storage: int
    bytes: int
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def is_all(self) -> bool:
        """Whether it has every element of its storage."""
        return self.bytes == self.dtype.itemsize * torch.Size(self.size).numel()

    def on(self, storage: UntypedStorage) -> Tensor:
        """Return the described tensor in a real storage."""
        shape = (self.offset, self.size, self.stride)
        return torch.empty(0, dtype=self.dtype).set_(storage, *shape)  # pyright: ignore


class _Call(NamedTuple):
    """Operation with descriptions in the place of tensors.

    Attributes:
        outputs: the tensors that it returns.
        reads, writes, overwrites: storages of which it uses, changes, or sets all values.
    """

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[Any]
    reads: set[int]
    writes: set[int]
    overwrites: set[int]


class _Turn(NamedTuple):
    """Call to replay, the storages that it completes, and those that no later call needs."""

    call: _Call
    completes: set[int]
    releases: set[int]


class Recording:
    """Operations of a constructor on tensors.

    Args:
        construct: makes tensors on the CPU, by name.

    Raises:
        Exception: of any kind, when it looks at values, as `torch.nn.init.trunc_normal_` does.
    """

    def __init__(self, construct: Callable[[], Mapping[str, Tensor]]) -> None:
        with FakeTensorMode(allow_non_fake_inputs=True), _Recorder() as recorder:
            tensors = construct()
        self._wanted: dict[int, list[tuple[str, _View]]] = {}
        for name, tensor in tensors.items():
            view = recorder.view_of(tensor)
            self._wanted.setdefault(view.storage, []).append((name, view))
        self._turns = _schedule(recorder.calls, self._wanted)

    @torch.no_grad()
    def replay(self, take: Callable[[str, Tensor], None]) -> None:
        """Run the operations on real tensors, with random numbers of torch's global stream.

        Args:
            take: called with the name and the values of each once it is complete; these are gone
                afterwards.
        """
        storages: dict[int, UntypedStorage] = {}
        sizes = {storage: views[0][1].bytes for storage, views in self._wanted.items()}
        progress, done = Progress("making the weights, MB", sum(sizes.values()) // 10**6), 0
        for turn in self._turns:
            _perform(turn.call, storages)
            for storage in turn.completes:
                done += sizes[storage]
                progress.update(done / 1e6)
                for name, view in self._wanted[storage]:
                    take(name, view.on(storages[storage]))
            for storage in turn.releases:
                storages.pop(storage, None)
        progress.close()


class _Recorder(TorchDispatchMode):
    """Recorder of operations that make or change values."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self._alive: list[UntypedStorage] = []  # or their numbers would be reused

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and record it."""
        kwargs = kwargs or {}
        # Before the operation, since some change the shape of their arguments.
        before = [tree_map(self._described, values) for values in (args, kwargs)]
        constant = any(_has_values(value) for value in tree_leaves((args, kwargs)))
        out = func(*args, **kwargs)
        if constant or not (func.is_view or torch.Tag.inplace_view in func.tags):
            outputs = [self._described(value) for value in tree_leaves(out)]
            self.calls.append(_call(func, before[0], before[1], outputs))
        return out

    def _described(self, value: Any) -> Any:
        return self.view_of(value) if isinstance(value, FakeTensor) else value

    def view_of(self, tensor: Tensor) -> _View:
        """Describe a tensor without values."""
        storage = tensor.untyped_storage()
        self._alive.append(storage)
        shape = (int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride())
        return _View(storage._cdata, storage.nbytes(), tensor.dtype, *shape)


def _has_values(value: Any) -> bool:
    """Tell whether it is a real tensor, such as `torch.tensor` makes of a list."""
    return isinstance(value, Tensor) and not isinstance(value, FakeTensor)


def _call(function: Any, args: Any, kwargs: Any, outputs: list[Any]) -> _Call:
    name, others, arguments = function._schema.name, (args[1:], kwargs), _storages((args, kwargs))
    reads = arguments
    overwrites = _storages(outputs) - arguments
    if name in _SHAPED_ALIKE or (name in _OVERWRITING and args[0].is_all):
        reads = _storages(others)
    if name in _OVERWRITING and args[0].is_all:
        overwrites |= {args[0].storage}
    declared = {p.name: a for p, a in zip(function._schema.arguments, args, strict=False)} | kwargs
    changed = [declared.get(p.name) for p in function._schema.arguments if p.is_write]
    return _Call(
        function, args, kwargs, outputs, reads, overwrites | _storages(changed), overwrites
    )


def _is_view(value: Any) -> bool:
    return isinstance(value, _View)


def _storages(values: Any) -> set[int]:
    leaves = tree_leaves(values, is_leaf=_is_view)
    return {leaf.storage for leaf in leaves if isinstance(leaf, _View)}


def _schedule(calls: list[_Call], wanted: Collection[int]) -> list[_Turn]:
    """Schedule the calls that `wanted` storages depend on, and all that draw random numbers."""
    turns: list[_Turn] = []
    missing, needed = set(wanted), set[int]()
    for call in reversed(calls):
        completes = call.writes & missing
        random = torch.Tag.nondeterministic_seeded in call.function.tags
        if random or completes or call.writes & needed:
            turns.append(_Turn(call, completes, (call.reads | call.writes) - needed))
            missing -= completes
            needed = (needed - call.overwrites) | call.reads
    return turns[::-1]


def _laid_out(tensor: Tensor, view: _View) -> Tensor:
    """Return a tensor with the strides that it was recorded with, which it has nearly always."""
    if tensor.stride() == view.stride and tensor.storage_offset() == view.offset:
        return tensor
    return view.on(UntypedStorage(view.bytes)).copy_(tensor)


def _perform(call: _Call, storages: dict[int, UntypedStorage]) -> None:
    def real(value: Any) -> Any:
        if not isinstance(value, _View):
            return value
        # Without values where the call overwrites them, or uses only the shape.
        storage = storages.get(value.storage) or UntypedStorage(value.bytes)
        if value.storage in call.writes:
            storages[value.storage] = storage
        return value.on(storage)

    args, kwargs = (tree_map(real, v, is_leaf=_is_view) for v in (call.args, call.kwargs))
    out = tree_leaves(call.function(*args, **kwargs))
    for view, tensor in zip(call.outputs, out, strict=True):
        if isinstance(view, _View) and view.storage not in storages:
            storages[view.storage] = _laid_out(tensor, view).untyped_storage()
