"""Distillation: students that adapt and students of one adapted model, from teachers that exist."""

import json
from dataclasses import replace

import pytest
import torch
from local_training import train
from sampling_models import GAN, adapted_model
from small_models import metatrain, save

from metatrain.base.errors import UntrustedError, UserError
from metatrain.config import load_config, override_values, with_values
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.data.loader import open_tasks
from metatrain.generators.frozen import pinned
from metatrain.generators.objectives.distill import DistillConfig
from metatrain.model.file import load_model
from metatrain.model.model import Model
from metatrain.model.portable import portable
from metatrain.training.adapted_student import distilled
from metatrain.training.checkpoint import CheckpointStore
from metatrain.training.distillation import stages_of, student_config
from metatrain.training.lessons import Lessons, refuse_teacher, trajectories
from metatrain.training.run_data import training_sampler

FEW = ("meta.steps=2", "objective.pairs=4", "objective.episodes=2", "inner.steps=1")
NOISE = Examples(torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(9)))


@pytest.fixture(scope="module")
def teacher(packed, tmp_path_factory):
    """The folder of a meta-trained model with random velocities."""
    folder = tmp_path_factory.mktemp("teacher")
    data = (f"data.path={packed}", "data.shots=3", "data.queries=2")
    model = adapted_model(*data, "adapt.steps=2", shots=0)
    save(packed, folder)
    model.save(folder / "model.safetensors")
    return folder


def config_of(teacher, packed, out, *overrides, steps=2):
    model, url = load_model(str(teacher), trust=True), f"{teacher}/model.safetensors"
    changes = override_values(list(overrides))
    return pinned(student_config(model, url, str(out), steps=steps, data=packed, overrides=changes))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_trajectory_passes_from_noise_to_what_is_sampled(steps):
    model = adapted_model("objective.sampler.steps=6", "objective.sampler.guidance=2")
    path = trajectories(model.generator(), model.support, NOISE, steps)
    assert path.shape == (4, steps + 1, 1, 16, 16)
    torch.testing.assert_close(path[:, 0], NOISE.target)
    sampler = model.config.objective.sampler
    stream = torch.Generator().manual_seed(3)
    noise = Examples(torch.randn(2, 1, 16, 16, generator=stream))
    path = trajectories(model.generator(), model.support, noise, steps)
    sampled = model.generator().sample(model.support, 2, 3, sampler)
    torch.testing.assert_close(path[:, -1].clamp(-1, 1), sampled)


def test_lessons_are_what_the_adapted_teacher_draws_and_recur(teacher, packed, tmp_path):
    config = config_of(teacher, packed, tmp_path / "s", *FEW, "objective.episodes=4")
    source = open_tasks(config.data)
    sampler = training_sampler(source, config)
    assert sampler.plan(1, 0) == sampler.plan(3, 0) != sampler.plan(0, 0)
    episodes = [source.read(sampler.plan(1, slot)) for slot in range(2)]
    lessons = Lessons(config, torch.device("cpu"))
    first, later = lessons.of(episodes, 1), lessons.of(episodes, 3)
    again = Lessons(config, torch.device("cpu")).of(episodes, 1)
    model = load_model(str(teacher), trust=True)
    for episode, one, two, three in zip(episodes, first, later, again, strict=True):
        path = one.query.target
        assert path.shape == (4, 3, 1, 16, 16) and one.query.encoded
        torch.testing.assert_close(path, two.query.target)
        torch.testing.assert_close(path, three.query.target)
        assert one.seed == episode.seed != two.seed
        torch.testing.assert_close(one.support.target, episode.support.target)
        adapted = model.adapt(episode.support, seed=episode.seed)
        noise = Examples(path[:, 0])
        expected = trajectories(adapted.generator(), episode.support, noise, 2)
        torch.testing.assert_close(path, expected, rtol=1e-3, atol=1e-4)


def test_a_run_that_resumes_learns_the_same(teacher, packed, tmp_path):
    config = config_of(teacher, packed, tmp_path / "s", *FEW, "meta.steps=4")
    half = train(with_values(config, {"meta.steps": 2, "meta.decay": 0.0}))
    config = with_values(config, {"meta.decay": 0.0})
    whole, resumed = train(config), train(config, state=half)
    assert resumed.step == whole.step == 4
    for name, value in whole.parameters.items():
        torch.testing.assert_close(resumed.parameters[name], value, rtol=0, atol=0)


@pytest.mark.long
def test_a_command_trains_students_that_adapt_and_their_students(teacher, tmp_path, capsys):
    out = tmp_path / "student"
    assert metatrain("distill", teacher, *FEW, "--steps", 2, "--out", out, "--device", "cpu") == 0
    printed = capsys.readouterr()
    assert printed.out == f"{out}/model.safetensors\n"
    assert f"to 4 network calls an image, in {out}-4." in printed.err
    assert f"to 2 network calls an image, in {out}." in printed.err
    assert CheckpointStore(str(out)).steps()[-1] == 2
    model = load_model(str(out), trust=True)
    assert model.config.objective.sampler.steps == 2 and model.config.adapt.steps == 1
    assert model.config.objective.teacher.path == f"{out}-4/model.safetensors"
    images = torch.rand(3, 1, 16, 16) * 2 - 1
    samples = model.adapt(images).sample(2)
    torch.testing.assert_close(samples, model.adapt(images).sample(2, steps=2))
    # Runs that have ended are not repeated, and a student has students.
    checkpoints = sorted(out.rglob("checkpoints/*/*"))
    times = [file.stat().st_mtime_ns for file in checkpoints]
    assert metatrain("distill", teacher, *FEW, "--steps", 2, "--out", out, "--device", "cpu") == 0
    assert times == [file.stat().st_mtime_ns for file in checkpoints] != []
    capsys.readouterr()
    assert metatrain("distill", out, *FEW, "--steps", 4, "--out", tmp_path / "x") == 1
    assert "draws in 2 network calls already" in capsys.readouterr().err


def test_a_command_trains_the_student_of_an_adapted_model(tmp_path, capsys):
    adapted_model().save(tmp_path / "adapted.safetensors")
    out = tmp_path / "student"
    options = ("meta.steps=2", "--steps", 4, "--device", "cpu", "--out", out)
    assert metatrain("distill", tmp_path, *options) == 0
    assert capsys.readouterr().out == f"{out}/adapted.safetensors\n"
    student = load_model(f"{out}/adapted.safetensors")
    assert student.support is not None and student.config.objective.sampler.steps == 4
    assert metatrain("generate", out, "-n", 2, "--out", tmp_path / "two.png") == 0
    capsys.readouterr()
    assert metatrain("distill", tmp_path, *options[:-1], tmp_path) == 1
    assert "--out is the folder of the adapted model; give another one" in capsys.readouterr().err


@pytest.mark.long
def test_the_student_of_an_adapted_model_draws_what_it_draws(tmp_path):
    model = adapted_model("objective.sampler.steps=2")
    model.save(tmp_path / "adapted.safetensors")
    overrides = {"meta.steps": 100, "meta.lr": 3e-3, "objective.velocity": 0.0}
    url = f"{tmp_path}/adapted.safetensors"
    config = student_config(model, url, "runs/s", steps=1, data=None, overrides=overrides)
    student = distilled(model, config)

    def error(samples):
        return (samples - model.sample(32, seed=5)).square().mean().item()

    assert error(student.sample(32, seed=5)) < 0.7 * error(model.sample(32, seed=5, steps=1))


@pytest.mark.long
def test_meta_training_brings_a_student_nearer_to_its_teacher(teacher, packed, tmp_path):
    overrides = ("meta.steps=30", "meta.lr=0.003", "objective.episodes=4", "objective.velocity=0")
    config = config_of(teacher, packed, tmp_path / "s", *overrides, "inner.steps=1", steps=1)
    losses = [record["loss"] for record in train(config).history]
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])


def test_a_student_samples_in_the_steps_that_are_given_last():
    overrides = override_values(["objective.steps=2"])
    options = {"steps": 4, "data": None, "overrides": overrides}
    config = student_config(adapted_model(shots=0), "t.safetensors", "runs/s", **options)
    assert config.objective.steps == config.objective.sampler.steps == 2


@pytest.mark.parametrize(("trusted", "kept"), [(True, "/cache"), (False, None)])
def test_a_strangers_folder_is_no_cache_of_a_student(trusted, kept):
    teacher = replace(adapted_model("data.cache_dir=/cache", shots=0), trusted=trusted)
    config = student_config(teacher, "t.safetensors", "runs/s", steps=4, data="data")
    assert config.data.cache_dir == kept and config.data.path == "data"


def test_a_student_is_read_without_its_teacher_who_may_be_anywhere(tmp_path):
    student = adapted_model(
        *("objective.name=distill", "objective.teacher.path=http://127.0.0.1:9/t"),
        *("learner.name=fomaml", f"objective.teacher.sha256={'a' * 64}"),
    )
    student.save(tmp_path / "student.safetensors")
    loaded = load_model(f"{tmp_path}/student.safetensors")
    assert loaded.config == student.config and loaded.sample(1).shape == (1, 1, 16, 16)
    unpinned = with_values(student.config, {"objective.teacher.sha256": None})
    replace(student, config=unpinned).save(tmp_path / "student.safetensors")
    with pytest.raises(UntrustedError, match="the model asks for http"):
        load_model(f"{tmp_path}/student.safetensors")


def test_trajectories_have_no_auxiliary_losses():
    overrides = {"auxiliary.masked": 0.1}
    with pytest.raises(UserError, match=r"trajectories for a query, and .* need images"):
        student_config(
            adapted_model(shots=0), "t", "runs/s", steps=4, data=None, overrides=overrides
        )


@pytest.mark.parametrize(
    ("overrides", "steps", "message"),
    [
        (GAN, 4, r"objective\.name=adversarial, which draws along no trajectory"),
        (
            ("objective.name=meanflow", "objective.sampler.steps=1"),
            1,
            r"draws in 1 network call already",
        ),
    ],
)
def test_what_cannot_be_distilled_is_refused(overrides, steps, message):
    with pytest.raises(UserError, match=message):
        refuse_teacher(adapted_model(*overrides, shots=0), steps, "there")


def test_a_student_to_give_away_names_no_place_of_its_teacher():
    options = ("objective.name=distill", "objective.teacher.path=/home/me/t.safetensors")
    student = adapted_model(*options, "learner.name=fomaml", shots=0)
    section = portable(student, "small").config.objective
    assert section.teacher.path == "t.safetensors" and section.steps == 4


def test_halving_begins_where_a_student_is(tmp_path):
    assert stages_of(adapted_model(), 1) == [4, 2, 1]
    assert stages_of(adapted_model(), 4) == [4]
    student = adapted_model(
        "objective.name=distill", "objective.teacher.path=t", "learner.name=fomaml"
    )
    assert student.config.objective.steps == 4
    assert stages_of(student, 1) == [2, 1] and stages_of(student, 2) == [2]
    assert stages_of(student, 4) == [4]  # which is refused


def test_a_student_tells_its_teacher_by_hash(teacher, packed, tmp_path):
    config = config_of(teacher, packed, tmp_path / "s", *FEW)
    section = config.objective
    assert isinstance(section, DistillConfig) and section.teacher.sha256
    other = section.teacher.model_copy(update={"sha256": "0" * 64})
    changed = config.model_copy(update={"objective": section.model_copy(update={"teacher": other})})
    with pytest.raises(UserError, match="name the file that was used"):
        Lessons(changed, torch.device("cpu"))
    assert json.loads(config.model_dump_json())["objective"]["teacher"]["sha256"]
    episode = Episode("t", Examples(NOISE.target), Examples(NOISE.target), 0)
    weights = {"network.w": torch.ones(1)}
    ours, others = (Model(c, weights, 1).sha256 for c in (config, changed))
    assert ours == Model(config, weights, 1).sha256 != others
    assert Lessons(load_config(None, []), torch.device("cpu")).of([episode], 0) == [episode]
