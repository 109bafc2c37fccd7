"""The DeepSpeed engine against plain torch, in real processes over gloo."""

import os
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file
from workers import run_workers

from cluster.engine.mesh import TaskMesh, largest_divisor
from cluster.engine.peers import ProcessGroupPeers
from metatrain.config import load_config, with_values
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.model.build import build_theta
from metatrain.model.model import Model
from metatrain.training.checkpoint import CheckpointStore, draft_of, state_of
from metatrain.training.state import TrainState

WORLD, STEPS = 2, 4

# Gradients are summed in another order than plain torch does; Adam divides by their size.
TOLERANCE = 1e-6


def configuration(way, optimizer, clip, *others):
    sharding = [f"cluster.zero_stage={way}", *others]
    if way in ("gathered", "sharded"):
        sharding = ["cluster.zero_stage=3", f"cluster.inner_loop={way}", *others]
    return load_config(
        None,
        [
            "data.image_size=8",
            "generator.width=8",
            f"meta.optimizer={optimizer}",
            f"meta.clip={clip}",
            *sharding,
        ],
    )


def gradient_of(rank, step):
    """Return the gradient of worker `rank` at `step`, large enough to clip at the last step."""
    noise = torch.Generator().manual_seed(1000 * step + rank)
    scale = 10.0 if step == STEPS - 1 else 0.01
    named = build_theta(configuration("0", "sgd", 0.0)).named().items()
    return {name: scale * torch.randn(p.shape, generator=noise) for name, p in named}


def starting_weights():
    return build_theta(configuration("0", "sgd", 0.0, "seed=7")).copy()


def rate(step):
    return 1e-3 * (step + 1)


def plain_torch(config):
    """Take the same steps in one process, without our code and DeepSpeed's."""
    theta = build_theta(config)
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[config.meta.optimizer]
    optimizer = kind(theta.parameters(), lr=0.0)
    for step in range(STEPS):
        gradients = [gradient_of(rank, step) for rank in range(WORLD)]
        for name, parameter in theta.named().items():
            parameter.grad = sum(g[name] for g in gradients) / WORLD
        if config.meta.clip:
            torch.nn.utils.clip_grad_norm_(theta.parameters(), config.meta.clip)
        optimizer.param_groups[0]["lr"] = rate(step)
        optimizer.step()
    return {name: p.detach() for name, p in theta.named().items()}


def work(rank, folder, cases):
    from cluster.engine.build import build_engine_and_learner

    peers = ProcessGroupPeers()

    def begun(config):
        engine, _ = build_engine_and_learner(config, torch.device("cpu"))
        engine.begin()
        return engine

    def resumed_from(store, config):
        engine, _ = build_engine_and_learner(config, torch.device("cpu"))
        engine.load(store.latest(peers, partial(state_of, partitions=engine.partitions)))
        return engine

    def take(engine, step):
        if engine.sharded:  # a group's workers have the same gradient
            parts = [gradient_of(r, step) for r in range(WORLD)]
            mean = {name: sum(part[name] for part in parts) / WORLD for name in parts[0]}
            engine.apply(engine.partitions.theta.local(mean), rate(step))
        else:
            engine.apply(gradient_of(rank, step), rate(step))

    for index, case in enumerate(cases):
        config = configuration(*case)
        straight = begun(config)
        for step in range(STEPS // 2):
            take(straight, step)
        local, store = straight.local(), CheckpointStore(f"{folder}/{index}")
        moments = straight.optimizer_state()
        half = TrainState(step=2, parameters=local, average=local, optimizer=moments)
        store.save(draft_of(half, config, straight.partitions), peers)
        other = cases[index - 1][0] if case[3:] != ("cluster.offload=true",) else case[0]
        resumed = resumed_from(store, config)
        elsewhere = resumed_from(store, configuration(other, *case[1:3]))
        for step in range(STEPS // 2, STEPS):
            for engine in (straight, resumed, elsewhere):
                take(engine, step)
        mean = straight.mean([float(rank), 1.0])
        # Five slots, taken in turn.
        own = range(straight.rank, 5, straight.world)
        slots = straight.gather([float(slot) for slot in own])
        started = begun(with_values(config, {"run.init": f"{folder}/model.safetensors"}))
        engines = {"straight": straight, "resumed": resumed, "elsewhere": elsewhere}
        engines["started"] = started
        results = {name: engine.full(engine.local()) for name, engine in engines.items()}
        if rank == 0:
            tensors = {f"{k}/{n}": p for k, tree in results.items() for n, p in tree.items()}
            tensors |= {"mean": torch.tensor(mean), "slots": torch.tensor(slots)}
            save_file(tensors, f"{folder}/{case}.safetensors")


WAYS = ("0", "1", "2", "gathered", "sharded")
CASES = [(way, *chosen) for chosen in (("sgd", 0.0), ("adam", 1.0)) for way in WAYS]
CASES += [(way, "adam", 1.0, "cluster.offload=true") for way in WAYS[1:]]
# Its masters are float32, and must be restored without a loss.
CASES += [("sharded", "adam", 0.0, "inner.precision=bf16")]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    config = configuration("0", "sgd", 0.0)
    Model(config, starting_weights(), step=1).save(f"{folder}/model.safetensors")
    run_workers(WORLD, folder, work, str(folder), CASES)
    return {case: load_file(folder / f"{case}.safetensors") for case in CASES}


def parameters(outcome, kind):
    return {n.partition("/")[2]: p for n, p in outcome.items() if n.startswith(f"{kind}/")}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_zero_stage_gives_the_parameters_of_plain_torch(outcomes, case):
    reference = plain_torch(configuration(*case))
    for name, parameter in parameters(outcomes[case], "straight").items():
        torch.testing.assert_close(parameter, reference[name], rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_run_that_starts_from_a_model_has_its_weights_on_every_worker(outcomes, case):
    started = parameters(outcomes[case], "started")
    assert all(torch.equal(started[name], p) for name, p in starting_weights().items())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_resumed_engine_continues_to_the_bit(outcomes, case):
    straight = parameters(outcomes[case], "straight")
    resumed = parameters(outcomes[case], "resumed")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_engine_resumed_at_another_stage_continues_as_at_its_own(outcomes, case):
    straight = parameters(outcomes[case], "straight")
    for name, parameter in parameters(outcomes[case], "elsewhere").items():
        torch.testing.assert_close(parameter, straight[name], rtol=TOLERANCE, atol=TOLERANCE)


def test_a_group_has_the_workers_of_a_node_or_all_workers_if_nodes_differ(tmp_path):
    run_workers(WORLD, tmp_path, meshes, str(tmp_path))
    assert load_file(tmp_path / "meshes")["shards"].tolist() == [1, 2, 2, 1]


def meshes(rank, folder):
    shards = []
    for nodes in ((1, 1), (2, 2), (1, 2)):
        os.environ["LOCAL_WORLD_SIZE"] = str(nodes[rank])
        shards.append(TaskMesh.make(None).shards)
    if rank == 0:
        save_file({"shards": torch.tensor([*shards, largest_divisor(3, 2)])}, f"{folder}/meshes")


def test_only_one_layer_is_whole_while_an_inner_loop_on_shards_computes(tmp_path):
    run_workers(WORLD, tmp_path, live_weights, str(tmp_path))
    live, largest, total = load_file(tmp_path / "live")["numbers"].tolist()
    assert live <= largest < total / 4


def live_weights(rank, folder):
    from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus

    from cluster.engine.build import build_engine_and_learner

    config = configuration("sharded", "sgd", 0.0)
    engine, learner = build_engine_and_learner(config, torch.device("cpu"))
    engine.begin()
    live, backward = [], engine._engine.backward

    def count_and_go_back(loss):
        there = [p for p in engine._named.values() if p.ds_status == ZeroParamStatus.AVAILABLE]
        live.append(sum(p.ds_numel for p in there))
        return backward(loss)

    engine._engine.backward = count_and_go_back
    images = torch.rand((4, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    for step in range(2):
        learner.outer_gradient(
            engine.parameters(), [Episode("t", Examples(images), Examples(images), 0)], step
        )
    sizes = [p.ds_numel for p in engine._named.values()]
    if rank == 0:
        numbers = torch.tensor([max(live), 2 * max(sizes), sum(sizes)])
        save_file({"numbers": numbers}, f"{folder}/live")


def test_items_of_workers_are_gathered_in_the_order_of_slots(outcomes):
    assert all(outcome["slots"].tolist() == [0, 1, 2, 3, 4] for outcome in outcomes.values())


def test_metrics_are_averaged_over_the_workers(outcomes):
    assert all(outcome["mean"].tolist() == [0.5, 1.0] for outcome in outcomes.values())
