"""Classifiers of few real images: what each system learns from, and how systems are compared."""

import pytest
import torch

from benchmarks.few_real import SYSTEMS, Division, kept, learned, table
from metatrain.data.tasks.augmented import Augmentation

NONE = Augmentation(flip=False, colour=0, turn=0, scale=0, shift=0)


def plain(*values):
    return torch.stack([torch.full((1, 8, 8), value) for value in values])


def test_generated_images_alone_can_tell_the_classifier_what_a_class_looks_like():
    # A dark image is of class b, but for the generated ones, of which no real one is an example.
    division = Division(
        given={"a": plain(0.9), "b": plain(0.0)},
        rest={"a": plain(-0.9, -0.8), "b": plain(0.0, 0.05)},
    )
    scores = {
        system: learned(
            system,
            division,
            lambda: {"a": plain(-0.9, -0.85, -0.8)},
            steps=60,
            seed=0,
            augmentation=NONE,
        )
        for system in SYSTEMS
    }
    assert scores["real"]["a"] == 0 == scores["real, augmented"]["a"]
    assert scores["real and generated"] == {"a": 1, "b": 1}
    assert scores["real and generated, augmented"] == {"a": 1, "b": 1}


def test_few_images_of_a_class_weigh_as_much_as_many_of_another():
    many = Division(
        given={"few": plain(0.2), "many": plain(*[-0.2] * 300)},
        rest={"few": plain(0.2), "many": plain(-0.2)},
    )
    scores = learned("real", many, dict, steps=40, seed=0, augmentation=NONE)
    assert scores == {"few": 1, "many": 1}


def test_generated_images_are_made_once(tmp_path):
    made = kept(tmp_path / "a.safetensors", lambda: plain(1.0, -1.0))
    again = kept(tmp_path / "a.safetensors", lambda: pytest.fail("made again"))
    assert torch.equal(made, again) and torch.equal(made, plain(1.0, -1.0))


def test_differences_are_paired_by_task():
    tasks = {"x": 0.2, "y": 0.5, "z": 0.9}
    results = {
        SYSTEMS[0]: [tasks, tasks],
        SYSTEMS[1]: [tasks, {n: v + 0.1 for n, v in tasks.items()}],
    }
    *_, first, second = table(results).splitlines()
    assert first.endswith("|  | -5.0% [-5.0, -5.0] |")
    assert second.endswith("| +5.0% [5.0, 5.0] |  |")
