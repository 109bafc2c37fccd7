"""Averages reconstructed after a training against brute-force averages during it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from local_training import train

from metatrain.base.errors import UserError
from metatrain.cli.command import run
from metatrain.cli.commands import COMMANDS
from metatrain.combine.post_hoc import reconstruct, solve
from metatrain.config import load_config
from metatrain.model.file import load_model
from metatrain.training.average import TRACKS, PowerAverage, gamma_of
from metatrain.training.average_snapshots import Snapshot, snapshots, snapshots_of
from metatrain.training.checkpoint import CheckpointStore, draft_of, state_of
from metatrain.training.initial_weights import initial_weights
from metatrain.training.observer import Observer
from metatrain.training.state import first_state

STEPS = 400


@pytest.fixture(scope="module")
def walk():
    """Return theta after each step of a training: a drift with noise."""
    steps = np.random.default_rng(0).normal(size=(STEPS, 50))
    return 5 + steps.cumsum(axis=0)


def brute_force(walk, sigma):
    """Sum theta_i times the integral of the profile over step i; Karras et al., eq. 2."""
    edges = np.arange(len(walk) + 1) / len(walk)
    return np.diff(edges ** (gamma_of(sigma) + 1)) @ walk


def averages(walk, every, sigmas=TRACKS):
    """Return the tracks of a training after each `every` steps."""
    kept = {}
    tracks = {s: PowerAverage({"w": torch.zeros(walk.shape[1]).double()}, s) for s in sigmas}
    for step, theta in enumerate(walk):
        for sigma, track in tracks.items():
            track.update({"w": torch.from_numpy(theta)}, step)
            if (step + 1) % every == 0:
                kept[Snapshot("", step + 1, sigma)] = track.parameters["w"].numpy().copy()
    return kept


@pytest.mark.parametrize("sigma", [0.05, 0.10, 0.2])
def test_a_track_is_the_average_of_its_profile(walk, sigma):
    last = averages(walk, STEPS, [sigma])[Snapshot("", STEPS, sigma)]
    np.testing.assert_allclose(last, brute_force(walk, sigma), rtol=1e-10)


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.1, 0.25, 0.28])
def test_a_profile_s_deviation_is_sigma_times_the_training(sigma):
    gamma, t = gamma_of(sigma), np.linspace(0, 1, 400_001)
    density = (gamma + 1) * t**gamma
    mean = np.trapezoid(density * t, t)
    assert np.sqrt(np.trapezoid(density * (t - mean) ** 2, t)) == pytest.approx(sigma, rel=1e-4)


@pytest.mark.parametrize("every", [20, 40])
@pytest.mark.parametrize(("sigma", "near"), [(0.07, 0.001), (0.13, 0.001), (0.2, 0.005)])
def test_an_average_of_another_length_is_that_of_brute_force(walk, every, sigma, near):
    kept = averages(walk, every)
    weights, _ = solve(list(kept), STEPS, sigma)
    made, exact = weights @ np.stack(list(kept.values())), brute_force(walk, sigma)
    assert np.linalg.norm(made - exact) < near * np.linalg.norm(exact)
    for stored in kept.values():
        assert np.linalg.norm(made - exact) < 0.2 * np.linalg.norm(stored - exact)


@pytest.mark.parametrize("sigma", [0.02, 0.05, 0.13, 0.28])
def test_weights_sum_to_one_so_that_what_never_moves_stays(sigma):
    stored = [Snapshot("", step, s) for step in range(10, 110, 10) for s in TRACKS]
    weights, error = solve(stored, 100, sigma)
    assert weights.sum() == pytest.approx(1.0, abs=1e-9)
    assert (error < 1e-6) == (sigma == 0.05)


def test_the_error_told_is_that_of_the_profile():
    stored = [Snapshot("", step, s) for step in (50, 75, 100) for s in TRACKS]
    weights, error = solve(stored, 100, 0.15)

    def profile(step, sigma):
        t = (np.arange(200_000) + 0.5) / 2_000
        power = gamma_of(sigma) + 1
        return np.where(t <= step, power * t ** (power - 1) / step**power, 0.0)

    made = sum(w * profile(s.step, s.sigma) for w, s in zip(weights, stored, strict=True))
    wanted = profile(100, 0.15)
    missed = np.linalg.norm(made - wanted) / np.linalg.norm(wanted)
    assert error == pytest.approx(missed, rel=1e-3)


class Keeper(Observer):
    """Saves like the cluster's Saver, and keeps theta after every step."""

    def __init__(self, config):
        self.config, self.checkpoints = config, CheckpointStore(config.run.url)

    def on_checkpoint(self, state):
        averages = snapshots(state, self.config)
        self.checkpoints.save(draft_of(state, self.config, snapshots=averages))


@pytest.fixture
def kept(overrides):
    """A run of 6 steps with a checkpoint every 2, and its final state."""
    small = [*overrides, "meta.post_hoc=true", "meta.steps=6", "checkpoint.every=2"]
    config = load_config(None, small)
    return config, train(config, [Keeper(config)])


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def test_a_run_keeps_two_tracks_and_goes_on_with_them_to_the_bit(kept):
    config, last = kept
    store = CheckpointStore(config.run.url)
    assert store.steps() == [4, 6]
    resumed = train(config, [Keeper(config)], state_of(store.open(4)))
    assert list(resumed.tracks) == ["0.05", "0.1"]
    assert all(same(resumed.tracks[s], last.tracks[s]) for s in last.tracks)
    assert not same(last.tracks["0.05"], last.tracks["0.1"])
    assert not same(last.tracks["0.05"], last.parameters)


def test_snapshots_outlive_their_checkpoints_and_any_average_is_made_of_them(kept):
    config, last = kept
    stored = snapshots_of(config.run.url)
    assert [(s.step, s.sigma) for s in stored] == [(n, s) for n in (2, 4, 6) for s in TRACKS]
    model, error = reconstruct(config.run.url, 0.10)
    assert (model.config, model.step) == (config, 6)
    assert error < 1e-6
    for name, p in last.tracks["0.1"].items():
        torch.testing.assert_close(model.parameters[name], p, rtol=1e-5, atol=1e-7)


def test_an_average_is_made_by_a_command(kept, tmp_path, capsys):
    arguments = ["combine", "post-hoc", kept[0].run.url, "--sigma", "0.07"]
    out = f"{tmp_path}/average.safetensors"
    assert run("metatrain", COMMANDS, [*arguments, "--out", out]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("relative error of the profile: ")
    assert lines[1:] == [out]
    made = load_model(out)
    assert made.step == 6
    assert all(not same(made.parameters, kept[1].tracks[s]) for s in kept[1].tracks)


def test_without_post_hoc_nothing_is_kept(overrides):
    config = load_config(None, [*overrides, "meta.steps=2", "checkpoint.every=1"])
    assert train(config, [Keeper(config)]).tracks == {}
    assert snapshots_of(config.run.url) == []
    with pytest.raises(UserError, match=r"no averages under .*meta\.post_hoc=true"):
        reconstruct(config.run.url, 0.1)


def test_the_state_before_the_first_step_has_no_average(config):
    state = first_state(initial_weights(config))
    tracks = {"0.05": state.parameters}
    assert snapshots(replace(state, tracks=tracks), config) == {}


@pytest.mark.parametrize("sigma", [0.0, -1.0, 1e-300, 0.3, float("nan")])
def test_a_length_that_no_average_has_is_refused(sigma):
    with pytest.raises(UserError, match=r"sigma is .*; give a length from 0\.01 to 0\.28"):
        reconstruct("anywhere", sigma)
