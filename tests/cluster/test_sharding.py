"""Every learner under every way of sharding against one plain loop, in real processes over gloo."""

from functools import cache
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.func import functional_call
from workers import run_workers

from metatrain.config import load_config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.learning.learners import LEARNERS
from metatrain.model.build import build_learner, build_theta
from metatrain.training.state import first_state
from metatrain.training.trainer import Trainer

TASKS, DECAY = 3, 0.9

# Gradients are summed in another order than one process does.
TOLERANCE = 1e-6
# Relative to the distance that theta moved: products by differences, and sums of bf16.
ROUGHLY = {"meta.hvp=difference": 1e-3, "inner.precision=bf16": 1e-2}

SGD = ("meta.optimizer=sgd", "meta.lr=0.3", "inner.optimizer=sgd", "inner.lr=0.05")
# Adam divides by the size of gradients and would amplify the last bits of one step in the next:
# one step, then, where the learner passes them on.
ADAM = ("meta.optimizer=sgd", "meta.lr=0.3", "inner.optimizer=adam", "inner.lr=0.001")
ADAM_ONCE = (*ADAM, "meta.steps=1", "meta.lr=1")
# Steps that pass on nothing but theta.
ONCE = (*SGD, "meta.steps=1")


class Case(NamedTuple):
    """A run: its learner, its settings and its sharding."""

    learner: str
    way: str
    settings: tuple[str, ...] = SGD
    shards: int | None = None

    batch: int = 2

    def tolerance(self, moved):
        rough = [ROUGHLY[setting] for setting in self.settings if setting in ROUGHLY]
        return max(rough) * moved if rough else TOLERANCE

    def reference(self):
        rounded = self.way == "sharded" and "inner.precision=bf16" in self.settings
        return plain_loop(self.learner, self.settings, self.batch, rounded)

    def config(self):
        sharding = [f"cluster.zero_stage={self.way if self.way in '012' else 3}"]
        sharding += [f"cluster.inner_loop={self.way}"] if self.way not in "012" else []
        if self.shards:
            sharding += [f"cluster.shards_per_group={self.shards}", "cluster.workers=4"]
        return configuration(self.learner, self.settings, self.batch, sharding)

    def assert_ends_as_plain_loop(self, outcome):
        """Assert that a run ends where one plain loop does, far from where it began."""
        expected, start = self.reference(), starting_weights(self.config())
        assert outcome.keys() == expected.keys()
        moved = max(float((expected[f"parameters/{n}"] - p).abs().max()) for n, p in start.items())
        assert moved > 1000 * TOLERANCE
        for name, value in expected.items():
            torch.testing.assert_close(outcome[name], value, rtol=0, atol=self.tolerance(moved))


def configuration(learner, settings, batch, sharding=()):
    named = any(setting.startswith("generator.name=") for setting in settings)
    network = [] if named else ["generator.width=8"]
    return load_config(
        None,
        [
            "data.image_size=8", *network, "inner.steps=2", "meta.steps=2",
            f"meta.batch={batch}", "meta.warmup=0", "meta.decay=0", f"meta.ema={DECAY}",
            f"learner.name={learner}", "checkpoint.every=100", *settings, *sharding,
        ],
    )  # fmt: skip


def starting_weights(config):
    """Return weights of which every gradient differs from zero; new networks end in zeros.

    In bf16 they are new, since the error of its sums grows with the outputs.
    """
    noise, theta = torch.Generator().manual_seed(7), build_theta(config).copy()
    scale = 0.0 if config.inner.precision == "bf16" else 0.1
    return {name: p + scale * torch.randn(p.shape, generator=noise) for name, p in theta.items()}


def episode(config, step, slot):
    """Return four support and three query images, which do not divide by two workers."""
    noise = torch.Generator().manual_seed(100 * step + slot)
    images = torch.rand((7, 1, 8, 8), generator=noise) * 2 - 1
    given = told(7, slot, noise) if config.data.conditions else {}
    task = f"task-{(step * config.meta.batch + slot) % TASKS}"
    return Episode(task, *Examples(images, given).split(4), 17 * step + slot)


def told(count, slot, noise):
    """Return texts and sounds of which some examples lack one or both, each worker's its own."""
    texts = ("a red fox", "", "hen", "\u6587 \u00e4", "")
    sounds = torch.rand((count, 24, 64), generator=noise)
    sounds[slot % 3 :: 3] = 0
    return {"text": tuple(texts[(i + slot) % len(texts)] for i in range(count)), "audio": sounds}


def work(rank, folder, cases):
    from cluster.engine.build import build_engine_and_learner

    for index, case in enumerate(cases):
        config = case.config()
        engine, learner = build_engine_and_learner(config, torch.device("cpu"))
        state = first_state(engine.partitions.theta.local(starting_weights(config)))
        engine.load(state)
        slots = range(engine.rank, case.batch, engine.world)
        episodes = ([episode(config, step, s) for s in slots] for step in range(config.meta.steps))
        trainer = Trainer(config, engine, learner, episodes, state, [])
        trainer.run()
        state = trainer.state()
        whole = engine.full if engine.sharded else lambda tree: tree
        by_task = {task: whole(tree) for task, tree in state.by_task.items()}
        trees = (engine.full(state.parameters, rank == 0), engine.full(state.average), by_task)
        if rank == 0:
            loss = torch.tensor(state.history[-1]["loss"])
            save_file(flat(*trees, loss), f"{folder}/{index}")


def flat(parameters, average, by_task, loss):
    trees = {"parameters": parameters, "average": average, **by_task}
    tensors = {f"{k}/{n}": p.contiguous() for k, tree in trees.items() for n, p in tree.items()}
    return tensors | {"loss": loss}


def objective_at_bf16_weights(generator):
    """Return the objective at weights rounded to bf16, and with the gradient there."""

    def objective(*draw, term):
        named = generator.named_parameters()
        rounded = {n: p + (p.bfloat16().float() - p).detach() for n, p in named}
        return functional_call(generator, rounded, draw, {"term": term})

    return objective


@cache
def plain_loop(learner, settings, batch, rounded):
    """Run the same in one process, without engine and trainer."""
    config = configuration(learner, settings, batch)
    theta = starting_weights(config)
    learner = build_learner(config, build_theta(config))
    if rounded:
        learner.inner._objective = objective_at_bf16_weights(learner.inner.generator)
    average = {name: p.clone() for name, p in theta.items()}
    optimizer = torch.optim.SGD([p.requires_grad_() for p in theta.values()], lr=config.meta.lr)
    memory = {}
    for step in range(config.meta.steps):
        episodes = [episode(config, step, slot) for slot in range(batch)]
        before = {n: p.detach() for n, p in theta.items()}
        outer = learner.outer_gradient(before, episodes, step, memory)
        for name, p in theta.items():
            p.grad = outer.gradient[name] / batch
        optimizer.step()
        after = {n: p.detach() for n, p in theta.items()}
        memory = learner.remember(memory, after, outer.notes)
        decay = min(DECAY, (1 + step) / (10 + step))
        average = {n: decay * average[n] + (1 - decay) * p.detach() for n, p in theta.items()}
    theta = {name: p.detach() for name, p in theta.items()}
    return flat(theta, average, memory, outer.metrics["loss"] / batch)


# Learners do not depend on stages 0 to 2, which test_engine.py compares; tested at each of them are
# the default, and those that keep or learn the most in addition to theta.
TWO = [Case(name, way) for name in LEARNERS.built_in for way in ("1", "gathered")]
TWO += [Case(name, way) for name in ("reptile", "alfa", "admm", "mtl") for way in ("0", "2")]
# A gradient on shards takes 10 ms of CPU a layer: few layers where their kinds matter little, and
# two steps only where the theta or the memory of tasks that the first leaves matters.
SHALLOW = ("generator.name=dit", "generator.patch=2", "generator.width=8", "generator.depth=1")
TWO += [Case("reptile", "sharded")]
TWO += [Case(name, "sharded", (*SGD, *SHALLOW)) for name in ("mtl", "admm")]
TWO += [Case(name, "sharded", (*ONCE, *SHALLOW)) for name in ("joint", "fomaml")]
TWO += [Case(n, "sharded", (*ADAM_ONCE, *SHALLOW)) for n in ("reptile", "fomaml", "admm")]
TWO += [Case("maml", "gathered", ADAM_ONCE)]
TWO += [Case("reptile", "sharded", (*ONCE, f"inner.scope.name={s}")) for s in ("film", "lora")]
DIFFERENCE = (*ONCE, "meta.hvp=difference")
TWO += [Case(name, "sharded", (*DIFFERENCE, *SHALLOW)) for name in ("maml", "imaml")]
# MAML with other scopes.
TWO += [Case(n, "sharded", (*DIFFERENCE, "inner.steps=1")) for n in ("anil", "boil", "cavia")]
BF16 = (*SGD, "inner.precision=bf16")
TWO += [Case(name, way, BF16) for name in ("reptile", "fomaml") for way in ("1", "sharded")]
TWO += [Case("reptile", way, (*ONCE, "cluster.offload=true")) for way in ("1", "sharded")]
# Encoders of text and sound, of which each worker's examples lack other values.
TOLD = (
    "generator.conditions=[support, text, audio]",
    "generator.conditions.text.depth=1",
    "generator.conditions.audio.width=8",
    "data.conditions.audio={name: audio, seconds: 0.2}",
)
TOLD_CASES = [Case("reptile", way, (*SGD, *TOLD)) for way in ("0", "1", "2", "gathered")]
TOLD_CASES += [Case(n, "sharded", (*ONCE, *SHALLOW, *TOLD)) for n in ("reptile", "fomaml", "joint")]
TOLD_CASES += [Case("maml", "gathered", (*SGD, *TOLD))]
TOLD_CASES += [Case("maml", "sharded", (*DIFFERENCE, *SHALLOW, *TOLD))]
TWO += TOLD_CASES
# Two groups of two.
MESH = [Case("reptile", way, SGD, 2, 4) for way in ("1", "gathered")]
MESH += [Case("reptile", "sharded", ONCE, 2), Case("admm", "sharded", ADAM_ONCE, 2)]
MESH += [Case("admm", "1", ADAM_ONCE, 2, 4), Case("maml", "gathered", SGD, 2, 4)]
# Four shards, by which neither parameters nor images divide.
MESH += [Case("reptile", way, ONCE, 4, 4) for way in ("gathered", "sharded")]
# One worker, without collectives.
ALONE = [Case("reptile", "0"), Case("reptile", "1"), Case("admm", "1")]
WORLDS = {1: ALONE, 2: TWO, 4: MESH}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folders = {world: tmp_path_factory.mktemp(f"world-{world}") for world in WORLDS}
    for world, cases in WORLDS.items():
        run_workers(world, folders[world], work, str(folders[world]), cases)
    return lambda world, case: load_file(folders[world] / str(WORLDS[world].index(case)))


@pytest.mark.parametrize(
    ("world", "case"), [(w, case) for w, cases in WORLDS.items() for case in cases], ids=str
)
def test_every_learner_under_every_sharding_ends_where_one_plain_loop_does(outcomes, world, case):
    case.assert_ends_as_plain_loop(outcomes(world, case))


@pytest.mark.parametrize("case", TOLD_CASES, ids=str)
def test_every_encoder_of_a_condition_moves_as_in_one_plain_loop(outcomes, case):
    outcome, expected, start = outcomes(2, case), case.reference(), starting_weights(case.config())
    encoders = {name: p for name, p in start.items() if ".encoders." in name}
    for place in ("encoders.encoders.0", "encoders.encoders.1", "summaries.0", "summaries.1"):
        assert any(place in name for name in encoders)
    for name, before in encoders.items():
        move, ours = (o[f"parameters/{name}"] - before for o in (expected, outcome))
        assert move.abs().max() > TOLERANCE, name
        assert (ours - move).abs().max() < 0.05 * move.abs().max(), name
