"""Layers of several tasks as one layer: what vmap takes apart, or calls task by task.

A group norm of T tasks is one of T times the groups, and attention one of T times the batch. With
them the inner step of a small network takes two thirds of the time on a CPU, see
`benchmarks/evaluation/inner_step.py`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._C._functorch import is_batchedtensor  # pyright: ignore[reportMissingImports]
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from metatrain.learning.inner.hvp import plain_attention


class FoldedLayers(TorchFunctionMode):
    """Inside vmap, computes group norms and attention of all tasks in one call each."""

    @override
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        fold, kwargs = _FOLDS.get(func), kwargs or {}
        if fold is None:
            return func(*args, **kwargs)
        tensors = [x for x in args if isinstance(x, Tensor)]
        # What a derivative inside the objective tracks is wrapped once more, and has no rule here.
        if tensors and all(is_batchedtensor(x) for x in tensors):
            return fold(*args, **kwargs)
        with plain_attention():
            return func(*args, **kwargs)


class _Folded(torch.autograd.Function):
    """A function that has only a rule for vmap, of ordinary operations with their derivatives."""

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        raise AssertionError("it is called inside vmap alone")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing: autograd sees the operations of the rule."""


class _GroupNorm(_Folded):
    @staticmethod
    def vmap(  # pyright: ignore[reportIncompatibleMethodOverride]
        info: Any,
        in_dims: tuple[int | None, ...],
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        groups: int,
        eps: float,
    ) -> tuple[Tensor, int]:
        tasks = info.batch_size
        folded = _with_tasks(x, in_dims[0], 1, tasks).flatten(1, 2)
        scale, shift = (
            None if p is None else _with_tasks(p, dim, 0, tasks).flatten()
            for p, dim in zip((weight, bias), in_dims[1:3], strict=True)
        )
        y = F.group_norm(folded, tasks * groups, scale, shift, eps)
        return y.unflatten(1, (tasks, -1)), 1


class _Attention(_Folded):
    @staticmethod
    def vmap(  # pyright: ignore[reportIncompatibleMethodOverride]
        info: Any,
        in_dims: tuple[int | None, ...],
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        options: dict[str, Any],
    ) -> tuple[Tensor, int]:
        tasks = info.batch_size
        q, k, v, m = (
            None if x is None else _with_tasks(x, dim, 0, tasks).flatten(0, 1)
            for x, dim in zip((query, key, value, mask), in_dims[:4], strict=True)
        )
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=m, **options)  # pyright: ignore
        return attended.unflatten(0, (tasks, -1)), 0


def _with_tasks(x: Tensor, at: int | None, to: int, tasks: int) -> Tensor:
    """Move the dimension of tasks to `to`, or add it where all tasks have the same."""
    if at is not None:
        return x.movedim(at, to)
    return x.unsqueeze(to).expand(*x.shape[:to], tasks, *x.shape[to:])


def _group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    return _GroupNorm.apply(x, weight, bias, groups, eps)  # pyright: ignore


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> Tensor:
    options |= {"dropout_p": dropout_p, "is_causal": is_causal}
    if query.ndim < 3 or not len(query) == len(key) == len(value):  # no batch to fold tasks into
        with plain_attention():
            return F.scaled_dot_product_attention(query, key, value, attn_mask, **options)
    if attn_mask is not None:
        attn_mask = attn_mask.expand(*query.shape[:-2], *attn_mask.shape[-2:])
    return _Attention.apply(query, key, value, attn_mask, options)  # pyright: ignore


_FOLDS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    F.group_norm: _group_norm,
    F.scaled_dot_product_attention: _attention,
}
