"""First weights made in slices: the bits of the whole generator, one tensor at a time."""

import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from metatrain.config import load_config
from metatrain.model.build import build_theta
from metatrain.training import initial_weights as module
from metatrain.training.initial_weights import initial_constants, initial_weights
from metatrain.training.partition import Partition, shapes_of
from metatrain.training.recording import Recording

WORLD = 4
# Scopes and rules add tensors after the network's, some of them computed from these.
CASES = [
    [f"generator.name={generator}", *others]
    for generator in ("unet", "dit")
    for others in (
        [],
        ["inner.scope.name=lora"],
        ["inner.scope.name=film"],
        *([f"learner.name={name}"] for name in ("cavia", "alfa", "maml++", "meta-sgd")),
    )
]


class Living(TorchDispatchMode):
    """Counter of the bytes of living tensors."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self._known = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and not isinstance(tensor, FakeTensor):
                self._note(tensor.untyped_storage())
        return out

    def _note(self, storage):
        if storage._cdata not in self._known and storage.device.type == "cpu":
            self._known.add(storage._cdata)
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())

    def _forget(self, key, size):
        self._known.discard(key)
        self.now -= size


def partition_of(tree, rank):
    counts = {name: tensor.numel() for name, tensor in tree.items()}
    slices = {
        n: (count * rank // WORLD, count * (rank + 1) // WORLD) for n, count in counts.items()
    }
    return Partition(shapes=shapes_of(tree), slices=slices)


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_slices_are_those_of_the_whole_and_only_one_tensor_is_whole_at_a_time(settings):
    config = load_config(None, ["generator.width=64", "data.image_size=16", *settings])
    whole = build_theta(config).copy()
    largest = max(tensor.nbytes for tensor in whole.values())
    assert largest < sum(tensor.nbytes for tensor in whole.values()) / 8
    for rank in (0, WORLD - 1):
        partition = partition_of(whole, rank)
        with Living() as living:
            result = initial_weights(config, partition)
        assert list(result) == list(whole)
        assert all(torch.equal(result[n], partition.cut(n, t)) for n, t in whole.items())
        kept = sum(tensor.nbytes for tensor in result.values())
        # One tensor, and at most one that it is computed from.
        assert living.most <= kept + 2 * largest


class Odd(nn.Module):
    """Module whose constructor computes tensors in unusual ways."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 7)
        self.second = nn.Linear(7, 7)
        self.shared = self.first.weight
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]))
        self.register_buffer("places", torch.arange(6.0).view(2, 3) / 3)
        nn.init.orthogonal_(self.second.weight)
        with torch.no_grad():
            self.second.weight[2:4] = self.first.weight[:2, :1] + self.mean[1]
            self.first.bias.fill_(0.5)
            self.second.bias.copy_(torch.from_numpy(np.ones(7)))
        self.scale = nn.Parameter(self.second.weight.detach().abs().mean())


def tensors_of(module):
    return dict(module.named_parameters()) | dict(module.named_buffers())


def replayed(recording):
    results = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        recording.replay(lambda name, tensor: results.update({name: tensor.clone()}))
    return results


def test_a_replay_computes_what_a_constructor_computes():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        expected = Odd()
    result, tensors = replayed(Recording(lambda: tensors_of(Odd()))), tensors_of(expected)
    assert result.keys() == tensors.keys()
    assert all(torch.equal(result[name], tensor) for name, tensor in tensors.items())


class Looking(nn.Module):
    """Module whose constructor looks at values, with a frozen parameter and a buffer."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(50, 50)))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("places", torch.arange(3.0))

    def named(self):
        return {"weight": self.weight}


def test_a_constructor_that_looks_at_values_runs_as_a_whole(monkeypatch):
    with pytest.raises(DataDependentOutputException):
        Recording(lambda: tensors_of(Looking()))

    def seeded(config):
        torch.manual_seed(config.seed)
        return Looking()

    config = load_config(None, ["seed=5"])
    monkeypatch.setattr(module, "build_theta", seeded)
    with torch.random.fork_rng(devices=[]):
        expected = seeded(config).named()
        partition = partition_of(expected, 1)
        result = initial_weights(config, partition)
        constants = initial_constants(config)
    assert torch.equal(result["weight"], partition.cut("weight", expected["weight"]))
    assert torch.equal(constants.pop("frozen"), torch.ones(2))
    assert torch.equal(constants.pop("places"), torch.arange(3.0))
    assert not constants
