"""The space of a sweep: every value of it gives a valid configuration."""

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatrain.config import COMPONENTS
from tuning.config import SweepConfig, load_sweep
from tuning.space import Dimension, corners, grid, suggest, with_values

SPACE = {
    "inner.lr": Dimension(loguniform=(1e-4, 1e-2)),
    "adapt.lr": Dimension(same_as="inner.lr"),
    "inner.steps": Dimension(int=(1, 8)),  # pyright: ignore[reportCallIssue]
    "inner.scope.name": Dimension(choice=("all", "lora")),
    "inner.scope.rank": Dimension(int=(1, 4), when={"inner.scope.name": "lora"}),  # pyright: ignore[reportCallIssue]
}


@given(st.integers(0, 2**31))
def test_every_suggestion_lies_in_the_space_and_keeps_its_conditions(seed):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    values = suggest(SPACE, study.ask())
    assert 1e-4 <= values["inner.lr"] <= 1e-2
    assert values["adapt.lr"] == values["inner.lr"]
    assert values["inner.steps"] in range(1, 9)
    assert ("inner.scope.rank" in values) == (values["inner.scope.name"] == "lora")


def test_optunas_distribution_contains_every_extreme():
    for key, dimension in SPACE.items():
        if not dimension.same_as:
            for value in dimension.extremes():
                assert dimension.optuna_distribution()._contains(dimension.optuna_value(value)), key


def test_a_grid_has_every_combination_once_and_none_against_the_conditions():
    space = {
        "a": Dimension(choice=("x", "y")),
        "b": Dimension(int=(1, 3), when={"a": "y"}),  # pyright: ignore[reportCallIssue]
        "c": Dimension(same_as="a"),
    }
    assert grid(space) == [
        {"a": "x", "c": "x"},
        *({"a": "y", "b": b, "c": "y"} for b in (1, 2, 3)),
    ]


def test_corners_contain_every_extreme_under_its_conditions():
    pairs = list(corners(SPACE))
    assert [v["inner.scope.rank"] for k, v in pairs if k == "inner.scope.rank"] == [1, 4]
    assert {v["inner.scope.name"] for k, v in pairs if k == "inner.scope.rank"} == {"lora"}
    assert [v["inner.lr"] for k, v in pairs if k == "inner.lr"] == [1e-4, 1e-2]


def test_a_new_component_removes_the_keys_of_the_old_one():
    tree = {"inner": {"scope": {"name": "lora", "rank": 2}, "lr": 0.1}}
    assert with_values(tree, {"inner.scope.name": "film"}, list(COMPONENTS)) == {
        "inner": {"scope": {"name": "film"}, "lr": 0.1}
    }
    assert tree["inner"]["scope"] == {"name": "lora", "rank": 2}


def sweep_file(tmp_path, text):
    file = tmp_path / "sweep.yaml"
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("space: {inner.lrr: {loguniform: [1e-4, 1e-2]}}", "did you mean 'inner.lr'?"),
        ("space: {inner.lr: {loguniforn: [1e-4, 1e-2]}}", "did you mean 'loguniform'?"),
        ("space: {inner.lr: {choice: [0.1, -1]}}", "space.inner.lr cannot be searched"),
        ("space: {inner.lr: {loguniform: [1e-2, 1e-4]}}", "give the smaller end first"),
        ("space: {inner.lr: {loguniform: [0.0, 1.0]}}", "start above 0"),
        ("space: {inner.lr: {}}", "gives no values to try"),
        ("space: {inner.lr: {choice: []}}", "is an empty choice"),
        ("space: {run.name: {choice: [a, b]}}", "space.run.name cannot be varied"),
        ("space: {meta.steps: {int: [1, 2]}}", "space.meta.steps cannot be varied"),
        ("spaces: {}", "there is no key 'spaces'; did you mean 'space'?"),
        ("scheduler: {nam: asha}\nspace: {inner.lr: {choice: [1]}}", "did you mean 'name'?"),
        ("name: empty", "space is missing"),
        ("metric: kit\nspace: {inner.lr: {choice: [1]}}", "allowed is 'own_task'"),
        (
            "space: {adapt.lr: {same_as: inner.lr}, inner.lr: {choice: [1]}}",
            "refers to inner.lr, which is not in the space before it",
        ),
        (
            "searcher: grid\nspace: {inner.lr: {uniform: [0.1, 1]}}",
            "searcher is grid, and space.inner.lr has infinitely many values",
        ),
        (
            "scheduler: {name: pbt}\nspace: {inner.steps: {int: [1, 2]}}",
            "scheduler.name is pbt, which changes inner.lr",
        ),
        (
            "space: {inner.scope.name: {choice: [all, lora]},"
            " inner.scope.rank: {int: [1, 4], when: {inner.scope.name: all}}}",
            "there is no key 'inner.scope.rank'",
        ),
        ("overrides: {inner.stepps: 3}\nspace: {inner.lr: {choice: [1]}}", "'inner.steps'"),
    ],
)
def test_a_mistake_is_reported_in_a_sentence_before_anything_starts(text, sentence, tmp_path):
    from metatrain.base.errors import UserError

    with pytest.raises(UserError) as error:
        load_sweep(sweep_file(tmp_path, text))
    assert sentence in str(error.value)


def test_overrides_reach_the_sweep_or_its_base(tmp_path):
    path = sweep_file(tmp_path, "space: {inner.lr: {loguniform: [1.0e-4, 1.0e-2]}}")
    sweep = load_sweep(path, ["budget.trials=3", "meta.steps=10", "scheduler.looks=5"])
    assert sweep.settings.budget.trials == 3
    assert sweep.base.meta.steps == 10
    assert sweep.base.checkpoint.every == 2
    assert sweep.original.checkpoint.every == 500


def test_overrides_of_a_section_keep_the_rest_of_it(tmp_path):
    (tmp_path / "base.yaml").write_text("data: {image_size: 16, shots: 3}")
    text = f"base: {tmp_path}/base.yaml\noverrides: {{data: {{shots: 4}}, inner.steps: 3}}\n"
    sweep = load_sweep(sweep_file(tmp_path, text + "space: {inner.lr: {choice: [0.1]}}"))
    assert (sweep.base.data.image_size, sweep.base.data.shots) == (16, 4)
    assert sweep.base.inner.steps == 3


def test_a_trial_is_the_base_with_its_values(tmp_path):
    path = sweep_file(
        tmp_path,
        "overrides: {learner.name: maml}\n"
        "space: {learner.name: {choice: [maml, anil, reptile]}, inner.lr: {uniform: [0.1, 1]}}",
    )
    sweep = load_sweep(path)
    trial = sweep.config({"learner.name": "anil", "inner.lr": 0.5}, "007")
    # A learner that is defined by a scope brings it.
    assert (trial.inner.scope.name, trial.inner.lr, trial.run.name) == ("head", 0.5, "007")
    assert trial.validation.tasks > 0


def test_every_key_of_a_sweep_has_a_description():
    for name, part in SweepConfig.model_fields.items():
        assert part.description or hasattr(part.annotation, "model_fields"), name
