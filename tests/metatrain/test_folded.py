"""Group norms and attention of several tasks in one call, against vmap alone."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.func import vmap

from metatrain.learning.inner.folded import FoldedLayers
from metatrain.learning.inner.hvp import plain_attention

TASKS, BATCH, HEADS, LENGTH, WIDTH = 3, 2, 4, 5, 8
attention = F.scaled_dot_product_attention


def values(*shape):
    return torch.randn(TASKS, *shape, dtype=torch.float64)


def gradients(function, *inputs, folded):
    """The outputs of all tasks, and the gradient of a sum of them in every input."""
    leaves = [x.clone().requires_grad_() for x in inputs]

    def one(*parts):
        if not folded:
            return function(*parts)
        with FoldedLayers():
            return function(*parts)

    with plain_attention():
        outputs = vmap(one)(*leaves)
    return outputs, *torch.autograd.grad(outputs.sin().sum(), leaves)


ATTENTION = {
    "plain": attention,
    "causal": lambda q, k, v: attention(q, k, v, is_causal=True),
    "all by place": lambda q, k, v: attention(q, k, v, None, 0.0, True),
    "some by name": lambda q, k, v: attention(q, key=k, value=v),
    "all by name": lambda q, k, v: attention(query=q, key=k, value=v),
    "mask of two dimensions": lambda q, k, v: attention(q, k, v, attn_mask=mask(LENGTH, LENGTH)),
    "mask of all images": lambda q, k, v: attention(q, k, v, mask(1, 1, 1, LENGTH)),
    "mask of each image": lambda q, k, v: attention(q, k, v, mask(BATCH, 1, LENGTH, LENGTH)),
    "mask of each task": lambda q, k, v: attention(q, k, v, attn_mask=v[:1, :1, :, 0][:, :, None]),
    "keys of all images": lambda q, k, v: attention(q, k[:1], v[:1]),
    "fewer heads of keys": lambda q, k, v: attention(q, k[:, :2], v[:, :2], enable_gqa=True),
    "no batch": lambda q, k, v: attention(q[0, 0], k[0, 0], v[0, 0]),
}


def mask(*shape):
    # vmap refuses random numbers.
    return torch.arange(math.prod(shape)).double().sin().reshape(shape)


@pytest.mark.parametrize("function", ATTENTION.values(), ids=ATTENTION)
def test_attention_of_all_tasks_is_that_of_each(function):
    inputs = [values(BATCH, HEADS, LENGTH, WIDTH) for _ in range(3)]
    pairs = zip(*(gradients(function, *inputs, folded=f) for f in (True, False)), strict=True)
    for ours, reference in pairs:
        torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-12)


GROUP_NORMS = {
    "by place": lambda x, w, b: F.group_norm(x, 2, w, b),
    "by name": lambda x, w, b: F.group_norm(input=x, num_groups=2, weight=w, bias=b),
    "without scales": lambda x, w, b: F.group_norm(x, 2) * w.sum() * b.sum(),
    "two dimensions": lambda x, w, b: F.group_norm(x[..., 0, 0], 2, w, b),
    "one image of all tasks": lambda x, w, b: (
        F.group_norm(torch.ones_like(w)[None], 2, w, b) * x[:, :, 0, 0]
    ),
}


@pytest.mark.parametrize("function", GROUP_NORMS.values(), ids=GROUP_NORMS)
def test_group_norms_of_all_tasks_are_those_of_each(function):
    inputs = [values(BATCH, 8, 4, 4), values(8), values(8)]
    pairs = zip(*(gradients(function, *inputs, folded=f) for f in (True, False)), strict=True)
    for ours, reference in pairs:
        torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.jvp], ids=["grad", "jvp"])
def test_a_derivative_inside_the_objective_passes(transform):
    def slope(x, memory):
        def height(x):
            scale = memory[0, :, 0, 0]
            y = F.group_norm(x, 2, scale, scale)
            return attention(y, memory, memory).square().sum()

        if transform is torch.func.grad:
            return torch.func.grad(height)(x)
        return torch.func.jvp(height, (x,), (torch.ones_like(x),))[1]

    inputs = values(BATCH, HEADS, LENGTH, WIDTH), values(BATCH, HEADS, LENGTH, WIDTH)
    pairs = zip(*(gradients(slope, *inputs, folded=f) for f in (True, False)), strict=True)
    for ours, reference in pairs:
        torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-10)


@pytest.mark.filterwarnings("error")
def test_attention_that_does_not_fold_is_not_computed_task_by_task():
    q, k = values(BATCH, HEADS, LENGTH, WIDTH), mask(BATCH, HEADS, LENGTH, WIDTH)

    def one(q):
        with FoldedLayers():
            return attention(q, k, k)

    expected = torch.stack([attention(task, k, k) for task in q])
    torch.testing.assert_close(vmap(one)(q), expected)


def test_torch_still_tells_what_vmap_has_wrapped():
    told = []
    try:
        from torch._C._functorch import is_batchedtensor
    except ImportError:
        pytest.fail(
            "torch has moved is_batchedtensor, which has no public name; find what torch.func "
            "uses now, or leave FoldedLayers out of stack.py: tasks at once are then slower, and "
            "no less right"
        )
    vmap(lambda x: told.append(is_batchedtensor(x)) or x)(torch.ones(2))
    assert told == [True] and not is_batchedtensor(torch.ones(2))
