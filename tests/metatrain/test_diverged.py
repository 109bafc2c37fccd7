"""Weights that diverged are a sentence that says what to lower, and never a file."""

from dataclasses import replace

import pytest
import torch
from sampling_models import adapted_model
from small_models import metatrain

import metatrain as library
from metatrain.base.errors import UserError
from metatrain.config import load_config, with_values
from metatrain.model.file import load_model
from metatrain.model.precision import rounded
from metatrain.training.checkpoint import CheckpointStore

NAME = "network.stem.weight"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    adapted_model(shots=0).save(path)
    return path


@pytest.mark.parametrize("options", [["--lr", "1e30"], ["adapt.lr=1e30", "--whole"]])
def test_an_adaptation_that_diverges_is_one_sentence_and_no_file(
    file, images, tmp_path, capsys, options
):
    out = tmp_path / "adapted"
    command = ["adapt", file, f"{images}/task-01", "--steps", 3, "--out", out, *options]
    assert metatrain(*command) == 1
    [sentence] = [line for line in capsys.readouterr().err.splitlines() if "diverged" in line]
    assert sentence.startswith("metatrain: adapting diverged: network.")
    assert sentence.endswith("after 3 steps; lower adapt.lr, which is 1e+30, or take fewer steps.")
    assert not [*tmp_path.rglob("adapted.safetensors*")]


def test_tasks_that_are_adapted_to_together_diverge_in_a_sentence_too(images):
    model, tasks = adapted_model(shots=0), [f"{images}/task-0{n}" for n in (1, 2)]
    for scope in ("film", "all"):
        with pytest.raises(UserError, match="adapting diverged"):
            model.adapt_tasks(tasks, steps=3, lr=1e30, scope=scope)


def test_learned_rates_cannot_be_lowered(images):
    model = adapted_model("learner.name=meta-sgd", shots=0)
    rates = {n: p + 1e30 if n.startswith("inner_rule") else p for n, p in model.parameters.items()}
    with pytest.raises(UserError, match=r"after 3 steps; take fewer steps\."):
        replace(model, parameters=rates).adapt(f"{images}/task-01", steps=3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e300])
@pytest.mark.parametrize("exact", ["fp16", "int8", None])
def test_a_model_of_numbers_that_are_none_is_not_saved(bad, exact, tmp_path):
    model = rounded(adapted_model(), exact) if exact else adapted_model()
    weight = model.parameters[NAME].double() if bad == 1e300 else model.parameters[NAME].clone()
    weight.view(-1)[2] = bad
    diverged = replace(model, parameters=model.parameters | {NAME: weight})
    with pytest.raises(UserError, match=f"cannot be saved: {NAME} is not finite.*learning rate"):
        diverged.save(tmp_path / "model.safetensors")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("steps", [1, 2])
def test_a_training_that_diverges_keeps_the_weights_of_before(file, packed, tmp_path, steps):
    """Losses of the first step are finite, and no weight is after it."""
    model = load_model(str(file))
    model.parameters["network.out.weight"].mul_(1e6)
    model.save(file)
    changes = {"data.path": packed, "data.shots": 3, "data.queries": 3, "inner.steps": 1}
    changes |= {"learner.name": "joint", "meta.optimizer": "sgd", "meta.lr": 1e30}
    changes |= {"meta.steps": steps, "meta.warmup": 0, "run.dir": f"{tmp_path}/runs"}
    config = with_values(model.config, changes | {"run.init": str(file)})
    sentence = r"not finite after outer step 1, .* step 0 is kept\. Lower .* another run\.name"
    with pytest.raises(UserError, match=sentence):
        library.train(config)
    store = CheckpointStore(config.run.url)
    assert store.steps() == [0]
    kept = load_model(store.folder(0), trust=True).parameters
    assert all(torch.equal(kept[name], p) for name, p in model.parameters.items())
    assert not [*tmp_path.rglob("step-*1"), *tmp_path.glob("runs/*/model.safetensors")]


def test_samples_that_are_no_numbers_are_no_pictures(tmp_path, capsys):
    """All weights are finite, and what they compute is not."""
    model = adapted_model()
    large = {n: p * 1e30 if n == "network.out.weight" else p for n, p in model.parameters.items()}
    replace(model, parameters=large).save(tmp_path / "adapted.safetensors")
    for out in ("sheet.png", "files"):
        assert metatrain("generate", tmp_path, "-n", 2, "--out", tmp_path / out) == 1
        assert "samples are not finite, so it has diverged" in capsys.readouterr().err
        assert not (tmp_path / out).exists()


@pytest.mark.parametrize("key", ["adapt.lr", "inner.lr", "meta.lr"])
def test_a_rate_beyond_single_precision_is_refused(key):
    with pytest.raises(UserError, match=f"{key} is 1e.39; allowed"):
        load_config(None, [f"{key}=1.0e+39"])
