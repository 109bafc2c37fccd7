"""The DeepSpeed engine against plain torch, in real processes over gloo."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from workers import run_workers

from metatrain.build import build_generator
from metatrain.config import load_config

WORLD, STEPS = 2, 4

# Gradients are summed in another order than plain torch does; Adam divides by their size.
TOLERANCE = 1e-6


def configuration(stage, optimizer, clip):
    return load_config(
        None,
        [
            "data.image_size=8",
            "generator.width=8",
            f"cluster.zero_stage={stage}",
            f"meta.optimizer={optimizer}",
            f"meta.clip={clip}",
        ],
    )


def gradient_of(rank, step):
    """What worker `rank` would hand over at `step`; the last step's are large enough to clip."""
    noise = torch.Generator().manual_seed(1000 * step + rank)
    scale = 10.0 if step == STEPS - 1 else 0.01
    named = build_generator(configuration(0, "sgd", 0.0)).named_parameters()
    return {name: scale * torch.randn(p.shape, generator=noise) for name, p in named}


def rate(step):
    return 1e-3 * (step + 1)


def plain_torch(config):
    """The same steps in one process, with nothing of ours and nothing of DeepSpeed's."""
    generator = build_generator(config)
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[config.meta.optimizer]
    optimizer = kind(generator.parameters(), lr=0.0)
    for step in range(STEPS):
        gradients = [gradient_of(rank, step) for rank in range(WORLD)]
        for name, parameter in generator.named_parameters():
            parameter.grad = sum(g[name] for g in gradients) / WORLD
        if config.meta.clip:
            torch.nn.utils.clip_grad_norm_(generator.parameters(), config.meta.clip)
        optimizer.param_groups[0]["lr"] = rate(step)
        optimizer.step()
    return {name: p.detach() for name, p in generator.named_parameters()}


def work(rank, folder, cases):
    from cluster.engine import ZeroEngine

    for case in cases:
        config = configuration(*case)
        straight = ZeroEngine(build_generator(config), config)
        first = ZeroEngine(build_generator(config), config)
        for step in range(STEPS):
            straight.apply(gradient_of(rank, step), rate(step))
            if step < STEPS // 2:
                first.apply(gradient_of(rank, step), rate(step))
        generator = build_generator(config)
        generator.load_state_dict({n: p.clone() for n, p in first.parameters().items()})
        resumed = ZeroEngine(generator, config, first.optimizer_state())
        for step in range(STEPS // 2, STEPS):
            resumed.apply(gradient_of(rank, step), rate(step))
        mean = straight.mean([float(rank), 1.0])
        # Five slots: worker 0 has 0, 2 and 4, worker 1 has 1 and 3.
        slots = straight.gather([float(slot) for slot in range(rank, 5, WORLD)])
        if rank == 0:
            results = {"straight": straight.parameters(), "resumed": resumed.parameters()}
            tensors = {f"{k}/{n}": p for k, tree in results.items() for n, p in tree.items()}
            tensors |= {"mean": torch.tensor(mean), "slots": torch.tensor(slots)}
            save_file(tensors, f"{folder}/{case}.safetensors")


CASES = [(s, o, c) for s in (0, 1, 2) for o in ("sgd", "adam") for c in (0.0, 1.0)]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
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
def test_a_restored_engine_goes_on_bit_for_bit(outcomes, case):
    straight = parameters(outcomes[case], "straight")
    resumed = parameters(outcomes[case], "resumed")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_what_workers_have_is_gathered_in_the_order_of_slots(outcomes):
    assert all(outcome["slots"].tolist() == [0, 1, 2, 3, 4] for outcome in outcomes.values())


def test_metrics_are_averaged_over_the_workers(outcomes):
    assert all(outcome["mean"].tolist() == [0.5, 1.0] for outcome in outcomes.values())
