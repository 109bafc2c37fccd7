"""Learning from choices: the file, the loss, and who foresees a choice that was held out."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from fuzzing import FEWEST, altered, bounds, damaged
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from metatrain.base.errors import UserError
from metatrain.preferences.choices import (
    Drawn,
    Mark,
    RaterChoice,
    append_line,
    read_choices,
    read_lines,
)
from metatrain.preferences.direct import Errors, direct_preference, margins, preference_loss
from metatrain.preferences.folds import FOLDS, HeldOut, folds_of
from metatrain.preferences.pairs import Answers
from metatrain.preferences.reward import logistic_ridge
from metatrain.preferences.share import Share

MODEL = "ab" * 32


def choice(left, right, answer, **fields):
    drawn = [Drawn(sha256=f"{seed:064x}", seed=seed) for seed in (left, right)]
    values = {"model": MODEL, "repeated": False, "seconds": 1.5, "time": 1e9} | fields
    return RaterChoice(left=drawn[0], right=drawn[1], answer=answer, **values)


def mark(seed, marking):
    image = Drawn(sha256=f"{seed:064x}", seed=seed)
    return Mark(model=MODEL, drawing=str(seed), image=image, mark=marking, time=1e9)


CHOICES = [choice(1, 2, "left"), choice(3, 4, "tie"), choice(2, 1, "right", repeated=True)]


def write(file, choices):
    for one in choices:
        append_line(file, one)


def test_choices_come_back_as_they_were(tmp_path):
    write(tmp_path / "c.jsonl", CHOICES)
    assert read_choices(str(tmp_path / "c.jsonl")) == CHOICES


def test_marks_lie_among_choices(tmp_path):
    lines = [CHOICES[0], mark(3, "good"), CHOICES[1], mark(3, "none")]
    write(tmp_path / "c.jsonl", lines)
    assert read_lines(str(tmp_path / "c.jsonl")) == lines
    assert read_choices(str(tmp_path / "c.jsonl")) == CHOICES[:2]


MARKS = st.lists(st.tuples(st.integers(1, 12), st.sampled_from(["good", "bad", "none"])))


@given(marks=MARKS, rated=st.lists(st.tuples(st.integers(1, 6), st.integers(7, 12)), max_size=3))
def test_no_marked_drawing_is_in_two_pairs(marks, rated):
    answers = [choice(left, right, "left") for left, right in rated]
    lines = [*answers, *(mark(*one) for one in marks)]
    by_answers, decided = Answers.of(answers).decided, Answers.of(lines).decided
    assert decided[: len(by_answers)] == by_answers
    last = {f"{seed:064x}": marking for seed, marking in marks}
    pairs = decided[len(by_answers) :]
    assert all((last[winner], last[loser]) == ("good", "bad") for winner, loser in pairs)
    taken = [sha256 for pair in by_answers for sha256 in pair]
    paired = [sha256 for pair in pairs for sha256 in pair]
    assert len({*paired}) == len(paired)
    assert not {*paired} & {*taken}
    # And as many pairs as there can be.
    free = [last[sha256] for sha256 in last if sha256 not in taken]
    assert len(pairs) == min(free.count("good"), free.count("bad"))


@given(cut=st.integers(0, 10_000), tear=st.booleans())
def test_no_cut_loses_a_choice_that_was_written(cut, tear, tmp_path_factory):
    """Whatever a crash leaves of a line, those before it are read, and the next one is whole."""
    file = tmp_path_factory.mktemp("cut") / "c.jsonl"
    write(file, CHOICES)
    data = file.read_bytes()
    cut %= len(data) + 1
    file.write_bytes(data[:cut] + b"\x00" * (3 if tear else 0))
    # A last line without its end counts where all of it is there.
    whole = data[:cut].count(b"\n")
    whole += not tear and data[cut : cut + 1] == b"\n"
    assert read_choices(str(file)) == CHOICES[:whole]
    append_line(file, CHOICES[2])
    assert read_choices(str(file)) == [*CHOICES[:whole], CHOICES[2]]


KILLED = """
import sys, time
from pathlib import Path
from metatrain.preferences.choices import append_line, read_choices
file = Path(sys.argv[1])
[one] = read_choices(sys.argv[2])
for number in range(10**6):
    append_line(file, one.model_copy(update={"time": float(number)}))
    print(number, flush=True)
"""


def test_a_kill_loses_nothing_that_was_answered(tmp_path):
    write(tmp_path / "one.jsonl", CHOICES[:1])
    command = [sys.executable, "-c", KILLED, tmp_path / "c.jsonl", tmp_path / "one.jsonl"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for _ in range(50):
        last = process.stdout.readline()
    process.kill()
    answered = int((last + process.stdout.read()).split()[-1])
    process.wait()
    times = [c.time for c in read_choices(str(tmp_path / "c.jsonl"))]
    assert times == list(range(len(times)))
    assert len(times) > answered >= 49


def line(**fields):
    return json.dumps(json.loads(CHOICES[0].model_dump_json()) | fields).encode()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"", "not JSON"),
        (b"[]", "object"),
        (b"{" * 100_000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (line(answer="both"), "answer"),
        (line(seconds=float("nan")), "seconds"),
        (line(seconds=-1), "seconds"),
        (line(seconds="1"), "seconds"),
        (line(repeated=1), "repeated"),
        (line(other=1), "other"),
        (line(format="metatrain-choice-9"), "format"),
        (line(model="../" * 21 + "x"), "model"),
        (line(left={"sha256": "../../../../etc/passwd", "seed": 1}), "left.sha256"),
        (line(left={"sha256": f"{2:064x}", "seed": 1}), "one image"),
        (line(left={"sha256": f"{9:064x}", "seed": -1}), "left.seed"),
        (line(left={"sha256": f"{9:064x}", "seed": True}), "left.seed"),
        (line(format="metatrain-mark-1"), "drawing"),
        (mark(1, "good").model_dump_json().replace("good", "best").encode(), "mark"),
        (mark(1, "good").model_dump_json().replace('"1"', '"../1"').encode(), "drawing"),
    ],
    ids=range(19),
)
def test_a_strangers_line_is_refused_by_its_number(bad, reason, tmp_path):
    write(tmp_path / "c.jsonl", CHOICES[:1])
    with (tmp_path / "c.jsonl").open("ab") as file:
        file.write(bad + b"\n")
    with pytest.raises(UserError, match=rf"line 2 of .*c\.jsonl is no choice: .*{reason}") as error:
        read_choices(str(tmp_path / "c.jsonl"))
    assert len(str(error.value)) < 1000


@given(data=st.data())
@FEWEST
def test_a_mutated_file(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("fuzz") / "c.jsonl"
    write(file, CHOICES)
    whole = file.read_bytes()
    one = altered(json.loads(line())).map(lambda values: json.dumps(values).encode() + b"\n")
    file.write_bytes(data.draw(st.one_of(damaged(whole), one)))
    with bounds():
        try:
            choices = read_choices(str(file))
        except UserError as error:
            assert "is no choice: " in str(error)
        else:
            append_line(file, CHOICES[0])
            assert read_choices(str(file)) == [*choices, CHOICES[0]]


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match="no file of choices at"):
        read_choices(str(tmp_path / "none.jsonl"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe"):
        read_choices(str(tmp_path / "pipe"))
    with (tmp_path / "huge.jsonl").open("wb") as file:
        file.truncate(5 * 10**7)
    with pytest.raises(UserError, match="bytes"):
        read_choices(str(tmp_path / "huge.jsonl"))


def test_a_pair_is_decided_by_most_answers_and_repeats_are_compared():
    answers = Answers.of(
        [
            *(choice(1, 2, "left"), choice(2, 1, "right")),  # 1 wins, twice
            *(choice(3, 4, "left"), choice(4, 3, "left")),  # either: no winner
            *(choice(5, 6, "tie"), choice(5, 6, "tie")),  # alike, twice
            *(choice(7, 8, "skip"), choice(8, 7, "left")),  # 8 wins; a skip is no answer
            *(choice(9, 10, "right"), choice(9, 10, "tie")),  # 10 wins
        ]
    )
    decided = [tuple(int(h, 16) for h in pair) for pair in answers.decided]
    assert decided == [(1, 2), (8, 7), (10, 9)]
    assert (answers.consistency.count, answers.consistency.of) == (2, 4)


@given(seed=st.integers(0, 2**32 - 1), beta=st.floats(0.1, 5000))
def test_the_loss_is_that_of_the_paper(seed, beta):
    """Equation 14 of Wallace et al. 2023 by numpy in float64, from predictions on.

    beta there stands for its product with T and the weight; a norm is a mean over values here.
    """
    random = np.random.default_rng(seed)
    wanted, predicted, reference = random.normal(size=(3, 2, 5, 3, 4, 4))
    predicted = reference + 0.02 * predicted

    def squares(prediction):  # [2, 5]: of winners, of losers
        return ((wanted - prediction) ** 2).mean(axis=(2, 3, 4))

    theta, ref = squares(predicted), squares(reference)
    inside = -0.5 * beta * ((theta[0] - ref[0]) - (theta[1] - ref[1]))
    expected = -np.mean(np.log(1 / (1 + np.exp(-np.clip(inside, -700, 700)))))
    errors, of_reference = (Errors(*torch.from_numpy(squares(p))) for p in (predicted, reference))
    loss = direct_preference(beta)(errors, of_reference)
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    # Not the sigmoid of a mean: one pair that is far off weighs no more than its own loss.
    if abs(inside).max() > 1:
        assert loss.item() > np.log1p(np.exp(-np.mean(inside)))


def test_what_prefers_as_the_reference_has_the_loss_log_2():
    errors = Errors(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0]))
    assert margins(errors, errors).tolist() == [0, 0]
    losses = preference_loss(margins(errors, errors), 2000.0)
    assert losses.tolist() == pytest.approx([np.log(2)] * 2)
    better = Errors(errors.winners - 0.1, errors.losers)
    assert (margins(better, errors) > 0).all()


@given(st.integers(2, 40), st.floats(0.01, 10), st.integers(0, 2**32 - 1))
def test_the_reward_is_logistic_regression_with_a_ridge(count, ridge, seed):
    z = np.random.default_rng(seed).normal(size=(count, 7))
    fitted = logistic_ridge(torch.from_numpy(z), ridge)
    peer = LogisticRegression(C=1 / ridge, fit_intercept=False, tol=1e-10, max_iter=10_000)
    peer.fit(np.concatenate([z, -z]), [1] * count + [0] * count)
    # Each pair is there twice, in both directions.
    twice = logistic_ridge(torch.from_numpy(np.concatenate([z, z])), ridge)
    assert twice.numpy() == pytest.approx(peer.coef_[0], rel=1e-3, abs=1e-4)
    slope = -(torch.sigmoid(-torch.from_numpy(z) @ fitted)[:, None] * torch.from_numpy(z)).sum(0)
    assert (slope + ridge * fitted).abs().max() < 1e-8


def test_folds_divide_the_pairs_evenly():
    for count in (10, 23):
        sizes = torch.bincount(folds_of(count, 0), minlength=FOLDS)
        assert sizes.sum() == count
        assert sizes.max() - sizes.min() <= 1


def test_who_knows_nothing_foresees_half():
    """By random margins, also where the step is the one that foresees held-out choices best."""
    random, count = torch.Generator().manual_seed(0), 20
    shares = []
    for seed in range(300):
        walk = torch.randn(10, count, generator=random, dtype=torch.float64).cumsum(0)
        steps = torch.cat([torch.zeros(1, count), walk])
        shares.append(HeldOut(steps, folds_of(count, seed), 1.0).foreseen.value)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("count", "of", "interval"),
    [(8, 10, (0.4902, 0.9433)), (0, 10, (0, 0.2775)), (10, 10, (0.7225, 1)), (0, 0, (0, 1))],
)
def test_intervals_are_wilsons(count, of, interval):
    assert Share(count, of).interval == pytest.approx(interval, abs=1e-4)


def test_a_share_beats_chance_where_its_interval_does():
    assert Share(19, 20).beats_chance
    assert not Share(12, 20).beats_chance
    assert not Share(0, 0).beats_chance
    assert str(Share(8, 10)) == "8 of 10 (80%, interval 49% to 94%)"


def test_a_training_that_diverged_is_never_the_best():
    margins = torch.zeros(3, 10)
    margins[1], margins[2] = 0.5, torch.nan
    held_out = HeldOut(margins, folds_of(10, 0), 1.0)
    assert held_out.best == 1 and held_out.foreseen.value == 1
    assert HeldOut(margins[[0, 2]], folds_of(10, 0), 1.0).best == 0
