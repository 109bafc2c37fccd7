"""One protocol: the same episodes for every system, and the same numbers with any workers."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_models import FEW, metatrain, save

from metatrain.base.errors import UserError
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packing.pack import pack
from metatrain.data.pictures import decode, to_uint8
from metatrain.evaluation.candidates import data_label, read_candidates, with_folders
from metatrain.evaluation.episodes.benchmark import read_benchmark
from metatrain.evaluation.episodes.episode_list import (
    SEEDS,
    list_episodes,
)
from metatrain.evaluation.protocol import JOINT, SCRATCH, UNADAPTED
from metatrain.evaluation.results import read_evaluation, read_scores
from metatrain.evaluation.running import runner
from metatrain.evaluation.running.jobs import (
    Job,
    from_scratch,
    perform,
    read_outputs,
    system_at,
)
from metatrain.evaluation.scores.baselines import COPY, JITTERED, REAL, baselines
from metatrain.evaluation.strip_files import read_strips
from metatrain.evaluation.terminal_table import difference_texts
from metatrain.model.file import load_model
from metatrain.training.run_data import RUN_MANIFEST

SHAPE = {"shots": 3, "image_size": 16, "channels": 1}


def numbers(folder):
    """Return all numbers of an evaluation except the times."""
    values = json.loads((Path(folder) / "evaluation.json").read_text())
    for result in values["results"].values():
        for point in result["curve"].values():
            assert point.pop("seconds") > 0
    return values


def test_every_system_is_scored_beside_the_baselines(evaluated, packed):
    outcome = read_evaluation(str(evaluated))
    order = [COPY, JITTERED, UNADAPTED, SCRATCH, JOINT, "one", REAL]
    assert list(outcome.results) == order
    assert (outcome.system, outcome.outer_steps) == ("one", 7)
    [missing] = outcome.missing
    assert "the system is not calibrated with 3 shots" in missing
    assert [space.name for space in outcome.spaces] == ["metric network", "HOG", "pixels"]
    episodes = outcome.episodes
    assert (episodes.tasks, episodes.shots, episodes.seeds) == (episodes.tasks[:3], 3, 2)
    assert episodes.listed == (16, SEEDS)
    assert episodes.data == EpisodeStore(packed).fingerprint
    assert set(outcome.result.curve) == {0, 1, 2}
    assert outcome.results[COPY].scores["pixels"]["memorised"].value == 1
    for result in outcome.results.values():
        for metrics in result.scores.values():
            for estimate in metrics.values():
                assert estimate.low <= estimate.value <= estimate.high
    for result in outcome.results.values():
        mean = sum(result.own_task) / len(result.own_task)
        assert mean == pytest.approx(result.scores["metric network"]["own_task"].value)
        assert len(result.task_kid) == 3


def test_the_strip_of_every_task_is_kept_as_it_was_drawn(evaluated, packed):
    result = read_evaluation(str(evaluated))
    whole = list_episodes(EpisodeStore(packed), "train")
    benchmark = read_benchmark(EpisodeStore(packed), whole.first(3, 2), **SHAPE)
    drawn = [load_file(file) for file in (evaluated / "work").glob("*.safetensors")]
    drawn = [i for outcome in drawn if outcome["steps"].shape[1] == 3 for i in outcome["images"]]
    for i, (given, after, real) in enumerate(read_strips(str(evaluated), result, [0, 1, 2])):
        assert given.equal(benchmark.support[0, i])
        assert real.equal(benchmark.reference[0, i])
        assert list(after) == [0, 1, 2]
        images = to_uint8(torch.stack(list(after.values())))
        assert any(images.equal(outcome) for outcome in drawn)
        files = [evaluated / "strips" / f"{i:02d}" / "support" / f"{n}.png" for n in range(3)]
        assert decode([file.read_bytes() for file in files], 16, 1).equal(given)


def test_scores_are_kept_with_their_resamples_for_paired_tests_later(evaluated):
    result = read_evaluation(str(evaluated))
    scores = read_scores(str(evaluated), result, "one")
    same = scores["pixels"]["kid"].minus(scores["pixels"]["kid"])
    assert (same.value, same.significant) == (0, False)
    for space, metrics in scores.items():
        for name, score in metrics.items():
            assert score.estimate.value == result.result.scores[space][name].value


def test_tasks_at_once_are_sampled_as_each_is_alone(places, packed, tmp_path):
    system, model = system_at(str(places / "one"))
    store = EpisodeStore(packed)
    episodes = tuple(list_episodes(store, "train").first(3, 1).episodes)
    assert system.at_once >= len(episodes)
    for each in (system, from_scratch(system, model)):
        job = Job(
            system=each,
            data=packed,
            fingerprint=store.fingerprint,
            split="train",
            episodes=episodes,
            shots=3,
            folder=str(tmp_path),
        )
        alone = [replace(job, episodes=(episode,)) for episode in episodes]
        for work in (job, *alone):
            perform(work, torch.device("cpu"))
        for one, other in zip(read_outputs([job]), read_outputs(alone), strict=True):
            apart = one.images.int() - other.images.int()
            assert apart.abs().max() <= 2, "as rounding moves levels"
            for part in ("losses", "surprise", "learned", "support_losses", "other_losses"):
                pair = getattr(one, part), getattr(other, part)
                torch.testing.assert_close(*pair, rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.long
def test_two_workers_get_the_numbers_of_one(places, evaluated):
    out = places / "by-two"
    options = ["--metric", places / "metric.safetensors", "--joint", places / "joint"]
    command = ["evaluate", places / "one", *options, *FEW, "--workers", 2, "--out", out]
    assert metatrain(*command) == 0
    assert numbers(out) == numbers(evaluated)


def test_what_was_interrupted_goes_on_where_it_was(places, evaluated, monkeypatch, capsys):
    out, done, losses = places / "interrupted", [], set()

    def until_interrupted(work, device):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(work.key)
        perform(work, device)

    def counted(work, device):
        done.append(work.key)
        perform(work, device)
        for output in read_outputs([work]):
            parts = output.support_losses, output.other_losses
            losses.add((work.system.untrained, *map(len, parts)))

    options = ["--metric", places / "metric.safetensors", "--joint", places / "joint"]
    command = ["evaluate", places / "one", *options, *FEW, "--workers", 1, "--out", out]
    monkeypatch.setattr(runner, "perform", until_interrupted)
    assert metatrain(*command) == 130
    assert not (out / "evaluation.json").exists()
    monkeypatch.setattr(runner, "perform", counted)
    assert metatrain(*command) == 0
    assert len(done) == len(set(done)) == 2 * 3, "the tasks of one seed are one job"
    assert losses == {(False, 3, 8), (True, 0, 0)}, "random weights are asked for no losses"
    assert numbers(out) == numbers(evaluated)
    capsys.readouterr()
    assert metatrain(*command) == 0
    assert len(done) == 2 * 3, "nothing is done twice"


def test_several_models_are_compared_on_the_same_episodes(places, evaluated, capsys):
    out = places / "both"
    options = ["--metric", places / "metric.safetensors", *FEW, "--workers", 1, "--out", out]
    assert metatrain("evaluate", places / "one", places / "two", *options) == 0
    output = capsys.readouterr().out
    assert "two against one: KID" in output
    assert "no joint + fine-tuning: no jointly trained model was given" in output
    alone, one = numbers(evaluated), numbers(out / "00")
    assert one["results"]["one"] == alone["results"]["one"]
    assert numbers(out / "01")["results"][REAL] == one["results"][REAL]


def test_two_of_one_name_are_told_apart_and_what_chance_may_make_is_no_difference(places, capsys):
    out = places / "twice"
    options = ["--metric", places / "metric.safetensors", *FEW, "--workers", 1, "--out", out]
    assert metatrain("evaluate", places / "one", places / "one", *options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"one ({places / 'one'}) ") for line in lines)
    again = next(line for line in lines if " against one: " in line)
    assert again.count("not significant, p = 1, Holm 1") == 3


@pytest.mark.long
def test_on_several_data_sets_models_are_compared_with_those_trained_there(
    places, images, packed, tmp_path, capsys
):
    pack(images, f"{tmp_path}/other", seed=1)  # the same images, split otherwise
    shutil.copytree(places / "one", tmp_path / "one")
    save(f"{tmp_path}/other", tmp_path / "two", "run.name=two", "seed=2")
    few = ["--split", "train", "--tasks", 3, "--seeds", 1, "--workers", 1]
    data = ["--data", packed, "--data", tmp_path / "other"]
    assert metatrain("evaluate", tmp_path / "one", tmp_path / "two", *data, *few) == 0
    output = capsys.readouterr().out
    label = data_label(EpisodeStore(f"{tmp_path}/other"))
    result, native = f"{tmp_path}/one/evaluation-{label}", f"{tmp_path}/two/evaluation"
    assert read_evaluation(f"{tmp_path}/one/evaluation").episodes.benchmark == "data"
    assert read_evaluation(result).episodes.benchmark == "other"
    one, two = (
        read_scores(folder, read_evaluation(folder), name)["metric network"]["kid"]
        for folder, name in ((result, "one"), (native, "two"))
    )
    assert "on other: one against two, which was trained there: own task" in output
    [alone] = difference_texts([("kid", one.minus(two))])
    assert f"KID {alone.partition(', Holm')[0]}" in output
    row = next(line for line in output.splitlines() if line.startswith("other (two)"))
    assert len(row.split("[")) == 3, "a score with its interval on each data set"


def test_data_that_was_moved_is_known_by_what_the_run_kept_of_it(places, packed, tmp_path):
    moved = EpisodeStore(shutil.copytree(packed, tmp_path / "moved").as_posix())
    candidates = read_candidates([str(shutil.copytree(places / "one", tmp_path / "one"))])
    (tmp_path / "one" / RUN_MANIFEST).unlink()
    assert not with_folders(candidates, moved, None)[0].native
    (tmp_path / "one" / RUN_MANIFEST).write_bytes(moved.manifest)
    assert with_folders(candidates, moved, None)[0].folder == f"{tmp_path}/one/evaluation"


def test_a_calibrated_model_is_the_same_and_is_asked_what_it_expects(places, tmp_path, capsys):
    run, metric = shutil.copytree(places / "one", tmp_path / "one"), places / "metric.safetensors"
    before = load_model(str(run))
    few = ["--seeds", 1, "--workers", 1, "--metric", metric]
    options = ["--split", "train", "--tasks", 3, "--shots", 5, *few]
    assert metatrain("evaluate", run, *options) == 0
    assert "the system is not calibrated" in capsys.readouterr().out
    drawn = sorted((run / "evaluation" / "work").iterdir())
    assert metatrain("calibrate", run, *few) == 0
    after = load_model(str(run))
    assert after.sha256 == before.sha256
    result = after.calibration
    assert result is not None
    assert (result.model, result.benchmark, result.shots) == (after.sha256, "data", 5)
    assert len(result.surprise) == result.extent.tasks == 2
    assert metatrain("evaluate", run, *options) == 0
    assert "expected before sampling" in capsys.readouterr().out
    quality = read_evaluation(f"{run}/evaluation").expectation_quality
    assert quality is not None
    assert len(quality.expected) == 3
    assert quality.warned.value == 0, "two tasks are too few to call anything unfamiliar"
    assert quality.held.value == 1
    members = read_evaluation(f"{run}/evaluation").membership
    assert members is not None
    assert 0 <= members.auroc.low <= members.auroc.value <= members.auroc.high <= 1
    assert set(drawn) < set((run / "evaluation" / "work").iterdir())
    assert len(list((run / "evaluation" / "work").iterdir())) == len(drawn) + 1, (
        "two tasks are one job"
    )


def test_copies_do_not_meet_the_demand_for_privacy(places, packed, tmp_path, capsys):
    drawn = tmp_path / "copies"
    assert metatrain("episodes", packed, "--split", "train", "--shots", 5, "--export", drawn) == 0
    for given in sorted(drawn.glob("seed-*/*/support")):
        for number, file in enumerate(sorted(given.iterdir())[:4]):
            shutil.copy(file, given.parent / f"{number}.png")
    few = ["--split", "train", "--shots", 5, "--tasks", 4, "--seeds", 1]
    options = [*few, "--metric", places / "metric.safetensors"]
    samples = ["--samples", drawn, "--data", packed]
    assert metatrain("evaluate", *samples, *options, "--demand-privacy") == 1
    output = capsys.readouterr()
    assert "privacy is not kept" in output.err and "in HOG" in output.err
    assert "membership" not in output.out, "samples have no losses"
    assert (drawn / "evaluation" / "evaluation.json").exists(), "the gate comes last"


def test_a_checkpoint_stays_as_it_is(places, tmp_path, capsys):
    folder = shutil.copytree(places / "one", tmp_path / "step-1")
    (folder / "index.json").write_text("{}")
    assert metatrain("calibrate", folder) == 1
    assert "is part of a checkpoint, which must not change; write" in capsys.readouterr().err


def test_from_scratch_knows_what_adapting_depends_on_and_nothing_else(places, packed, tmp_path):
    def untrained(*overrides):
        url = save(packed, tmp_path / "".join(overrides), "run.name=other", "seed=3", *overrides)
        [candidate] = read_candidates([url])
        return from_scratch(candidate.system, candidate.model).sha256

    [one] = read_candidates([str(places / "one")])
    known = from_scratch(one.system, one.model).sha256
    alike = ("meta.steps=3", "inner.lr=0.02", "inner.steps=2", "learner.name=joint")
    assert all(untrained(override) == known for override in alike)
    others = (
        "adapt.steps=3",
        "objective.sampler.steps=3",
        "inner.scope.name=film",
        "learner.name=meta-sgd",
        "learner.name=admm",
    )
    assert len({known, *map(untrained, others)}) == 1 + len(others)


def test_copies_are_the_support_and_jittered_ones_are_near_it(packed, listed):
    benchmark = read_benchmark(EpisodeStore(packed), listed.first(4, 2), **SHAPE)
    result = baselines(benchmark)
    order = [0, 1, 2, 0]  # four images of three
    assert result[COPY].equal(benchmark.support[:, :, order])
    assert result[REAL].equal(benchmark.held_out)
    moved = (result[JITTERED] - result[COPY]).flatten(3).square().mean(dim=3)
    assert (moved > 0).all()
    assert result[JITTERED].equal(baselines(benchmark)[JITTERED])
    assert result[JITTERED].abs().max() <= 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{one}", "--shots", 9], "up to 8 shots, not 9; choose 8 shots or fewer"),
        (["{one}", "--joint", "{two}"], "was trained by learner reptile"),
        (["{one}", "{large}"], "samples 32 pixels with 1 channels, and 'one' 16"),
        (["{one}", "--data", "{one}"], "is not a packed data set"),
        (["{one}", "--episodes", "{one}/model.safetensors"], "is not a list of episodes"),
        (["{one}", "--metric", "{one}/model.safetensors"], "is not a metric network"),
        (["{large}"], "images of 16 pixels, and 32 are asked for"),
        (
            ["{one}", "--data", "a", "--data", "b", "--metric", "m"],
            "--metric belongs to one",
        ),
        (["--samples", "{one}"], "give --data, its URL, once"),
        ([], "nothing to evaluate"),
    ],
)
def test_a_mistake_is_one_sentence(places, packed, tmp_path, capsys, arguments, sentence):
    names = {"one": places / "one", "two": places / "two", "data": packed}
    names["large"] = save(packed, tmp_path / "large", "data.image_size=32", "run.name=large")
    given = [str(a).format(**names) for a in arguments]
    assert metatrain("evaluate", *given) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["episodes", "{data}"], "give --out"),
        (["episodes", "{none}", "--out", "x"], "is not a packed data set"),
        (["train-metric", "{data}", "--size", 20, "--out", "x"], "and 20 are asked for"),
        (["calibrate", "{none}"], "there is no"),
    ],
)
def test_so_is_one_of_the_commands_beside_evaluate(packed, tmp_path, capsys, arguments, sentence):
    given = [str(a).format(data=packed, none=tmp_path) for a in arguments]
    assert metatrain(*given) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_an_evaluation_that_is_damaged_or_older_is_to_be_made_again(evaluated, tmp_path):
    for content, sentence in (
        ("{", "is damaged"),
        ('{"split": "test"}', "another version of metatrain"),
    ):
        (tmp_path / "evaluation.json").write_text(content)
        with pytest.raises(UserError, match=f"{sentence}; evaluate the run again"):
            read_evaluation(str(tmp_path))
    shutil.copytree(evaluated, tmp_path / "copy")
    (tmp_path / "copy" / "scores.safetensors").write_bytes(b"")
    result = read_evaluation(f"{tmp_path}/copy")
    with pytest.raises(UserError, match=r"scores\.safetensors is damaged"):
        read_scores(f"{tmp_path}/copy", result, "one")
