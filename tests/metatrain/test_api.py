"""The Python interface: what the README promises, and that it is what the command line gives."""

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import metatrain
from metatrain.cli.command import run
from metatrain.cli.commands import COMMANDS
from metatrain.data.pictures import contact_sheet
from metatrain.evaluation.validation import read_validations
from metatrain.model.file import load_model
from metatrain.training.checkpoint import CheckpointStore

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def settings(packed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    return [
        "run.name=demo", f"run.dir={folder}/runs", f"data.path={packed}", "data.image_size=16",
        "data.shots=3", "data.queries=3", "generator.width=8", "inner.steps=2", "meta.steps=6",
        "meta.warmup=2", "adapt.steps=3", "objective.sampler.steps=2", "checkpoint.every=2",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(settings):
    """The configuration of a run that was trained in this process, and the records on the way."""
    torch.set_num_threads(1)
    records = []
    config = metatrain.load_config(None, settings)
    metatrain.train(config, device="cpu", on_step=lambda *of: records.append(of))
    return config, records


def images(count=3):
    return np.random.default_rng(0).integers(0, 256, (count, 16, 16, 1), dtype=np.uint8)


def test_every_name_is_there_and_nothing_is_imported_before_it_is_used():
    code = (
        "import sys, metatrain\n"
        "assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules), 'imported at once'\n"
        "assert set(metatrain.__all__) <= set(dir(metatrain))\n"
        "for name in metatrain.__all__: assert getattr(metatrain, name).__doc__, name\n"
        "from metatrain import load, Model\n"
        "assert 'ray' not in sys.modules\n"
        "try: metatrain.nothing\n"
        "except AttributeError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "module 'metatrain' has no attribute 'nothing'\n"


def test_training_calls_back_checkpoints_and_leaves_a_model(trained):
    config, records = trained
    assert [step for step, _ in records] == [1, 2, 3, 4, 5, 6]
    assert all(record["loss"] > 0 for _, record in records)
    assert CheckpointStore(config.run.url).steps()[-1] == 6
    model = metatrain.load(config.run.url)
    assert model.step == 6
    assert model.config == config


def test_a_run_in_one_process_resumes_where_it_was(settings, tmp_path):
    again = [*settings, f"run.dir={tmp_path}"]
    metatrain.train(metatrain.load_config(None, [*again, "meta.steps=4"]), device="cpu")
    steps = []
    config = metatrain.load_config(None, [*again, "meta.steps=6", "meta.decay=0.5"])
    model = metatrain.train(config, device="cpu", on_step=lambda step, _: steps.append(step))
    assert steps == [5, 6]
    assert model.step == 6
    with pytest.raises(metatrain.UserError, match=r"cannot resume with changed inner\.lr"):
        metatrain.train(metatrain.load_config(None, [*again, "inner.lr=0.5"]))


def test_a_resumed_run_ends_as_an_uninterrupted_one(trained, settings, tmp_path):
    config = metatrain.load_config(None, [*settings, f"run.dir={tmp_path}"])

    def stop(step, _):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        metatrain.train(config, device="cpu", on_step=stop)
    model = metatrain.train(config, device="cpu")
    expected = metatrain.load(trained[0].run.url)
    assert all(torch.equal(model.parameters[n], p) for n, p in expected.parameters.items())


def test_what_auto_chose_is_kept_for_the_resumed_run(settings, tmp_path, caplog):
    more = [f"run.dir={tmp_path}", "learner.name=maml", "meta.gradient=auto", "meta.steps=2"]
    with caplog.at_level(logging.INFO, "metatrain"):
        metatrain.train(metatrain.load_config(None, [*settings, *more]), device="cpu")
    assert "auto selects" in caplog.text
    caplog.clear()
    longer = metatrain.load_config(None, [*settings, *more, "meta.steps=3"])
    with caplog.at_level(logging.INFO, "metatrain"):
        assert metatrain.train(longer, device="cpu").step == 3
    assert "auto selects" not in caplog.text


def test_a_run_in_one_process_is_validated(settings, tmp_path):
    more = [f"run.dir={tmp_path}", "validation.tasks=2", "meta.steps=2"]
    config = metatrain.load_config(None, [*settings, *more])
    metatrain.train(config, device="cpu")
    [result] = read_validations(config.run.url)
    assert result.step == 2
    assert result.curve[-1].k == 3


def test_the_command_line_gives_what_the_interface_gives(trained, tmp_path):
    model = metatrain.load(trained[0].run.url)
    adapted = model.adapt(images())
    (tmp_path / "five").mkdir()
    for i, array in enumerate(images()):
        Image.fromarray(array[:, :, 0]).save(tmp_path / "five" / f"{i}.png")

    def command(*arguments):
        return run("metatrain", COMMANDS, [str(argument) for argument in arguments])

    device = ("--device", "cpu")
    assert command("adapt", trained[0].run.url, tmp_path / "five", "--out", tmp_path, *device) == 0
    loaded = load_model(f"{tmp_path}/adapted.safetensors")
    assert loaded.sha256 == adapted.sha256
    picture = tmp_path / "grid.png"
    options = ("-n", 4, "--seed", 3, "--steps", 2, "--guidance", 2.0, "--out", picture, *device)
    assert command("generate", tmp_path / "adapted.safetensors", *options) == 0
    samples = adapted.sample(4, seed=3, steps=2, guidance=2.0)
    assert picture.read_bytes() == contact_sheet(samples)


def test_a_model_in_memory_is_scored_as_its_file_is(trained, tmp_path):
    url, few = trained[0].run.url, {"tasks": 2, "seeds": 1, "workers": 1, "device": "cpu"}
    by_file = metatrain.evaluate(url, out=tmp_path / "file", split="train", **few)
    in_memory = metatrain.evaluate(
        metatrain.load(url, trust=True), out=tmp_path / "memory", split="train", **few
    )
    assert by_file.result.scores == in_memory.result.scores
    assert [path.name for path in (tmp_path / "file").glob("evaluation.json")]


def test_a_mistake_is_a_value_error_with_its_sentence(tmp_path):
    with pytest.raises(ValueError, match="there is no model at"):
        metatrain.load(tmp_path)
    with pytest.raises(metatrain.UserError, match="no folder at"):
        metatrain.pack(str(tmp_path / "none"), str(tmp_path / "data"))


def test_nothing_is_printed(trained, capfd):
    model = metatrain.load(trained[0].run.url)
    model.adapt(images()).sample(2)
    assert capfd.readouterr() == ("", "")
