"""From an adapted model and choices to one that prefers: by the command, and what it refuses."""

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rated_choices import brightness, rate
from sampling_models import GAN, adapted_model
from small_models import metatrain, save

import metatrain as library
from metatrain.base.errors import UserError
from metatrain.data.batch import support_batch
from metatrain.data.pictures import png
from metatrain.learning.inner.low_rank import low_rank_terms
from metatrain.model.rescope import rescoped
from metatrain.preferences.choices import Mark, append_line, read_choices
from metatrain.preferences.direct import (
    PairErrors,
    Settings,
    Training,
    direct_preference,
    margins,
    preference_loss,
)
from metatrain.preferences.pairs import Pairs, read_answers, read_pairs, stored_hash
from metatrain.preferences.prefer import Outcome, prefer, prefer_stepwise, refuse_unteachable

FAST = Settings(lr=5e-3, batch=8)


@pytest.fixture(scope="module")
def base(packed, tmp_path_factory):
    return save(packed, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapted(base, images, tmp_path_factory):
    """A folder of an adapted model."""
    out = tmp_path_factory.mktemp("adapted")
    assert metatrain("adapt", base, f"{images}/task-03", "--out", out) == 0
    return out


@pytest.fixture(scope="module")
def model(adapted):
    return library.load(adapted / "adapted.safetensors")


@pytest.fixture(scope="module")
def choices(model, tmp_path_factory):
    return rate(model, tmp_path_factory.mktemp("choices"), 20)


@pytest.fixture(scope="module")
def preferred(model, choices):
    return prefer(model, choices, settings=FAST, steps=6)


def test_marks_become_pairs_of_a_good_one_and_a_bad_one(model, choices, tmp_path):
    folder = Path(choices).parent
    shutil.copytree(folder / "images", tmp_path / "images")
    drawn = [side for choice in read_choices(choices) for side in (choice.left, choice.right)]
    for number, image in enumerate(drawn):
        marking = "good" if number % 3 else "bad"
        name = str(image.seed)
        line = Mark(model=model.sha256, drawing=name, image=image, mark=marking, time=0.0)
        append_line(tmp_path / "marks.jsonl", line)
    answers = read_answers(str(tmp_path / "marks.jsonl"), model)
    pairs = read_pairs(str(tmp_path / "marks.jsonl"), answers, model)
    bad = {side.sha256 for side in drawn[::3]}
    assert len(pairs) == len(bad) == 14
    assert {stored_hash(png(loser), model) for loser in pairs.losers} == bad
    assert not {stored_hash(png(winner), model) for winner in pairs.winners} & bad


@pytest.mark.long
def test_it_draws_what_is_preferred(model, preferred):
    """A taste for bright drawings, which half of the choices' images would show by chance."""
    before, after = (brightness(m.sample(32, seed=9)) for m in (model, preferred.model))
    assert (after > before).double().mean() > 0.75
    assert preferred.foreseen["direct preference"].beats_chance
    assert preferred.foreseen["best of n"].beats_chance
    assert [*preferred.foreseen] == ["direct preference", "winners alone", "best of n"]


def test_the_same_seed_gives_the_same_model(model, choices):
    first, second = (prefer(model, choices, settings=FAST, steps=1) for _ in range(2))
    assert first.model.sha256 == second.model.sha256
    assert first.foreseen == second.foreseen


def test_only_the_low_rank_terms_move(model, preferred):
    """The reference is the model without them: turned off, it draws as before."""
    moved = {n for n, p in preferred.model.parameters.items() if n not in model.parameters}
    assert moved
    assert all(".lora." in name for name in moved)
    assert all(torch.equal(preferred.model.parameters[n], p) for n, p in model.parameters.items())
    after = preferred.model.parameters
    off = {n: torch.zeros_like(p) if n in moved else p for n, p in after.items()}
    without = replace(preferred.model, parameters=off)
    assert torch.equal(without.sample(4, seed=1), model.sample(4, seed=1))
    assert not torch.equal(preferred.model.sample(4, seed=1), model.sample(4, seed=1))
    assert low_rank_terms(preferred.model.generator().network)


def test_film_moves_nothing_else(model, choices):
    outcome = prefer(model, choices, settings=FAST, steps=2, scope="film")
    changed = [
        n for n, p in outcome.model.parameters.items() if not torch.equal(p, model.parameters[n])
    ]
    assert changed
    assert all("film" in name for name in changed)


@pytest.fixture
def errors(model, choices):
    """The errors of four pairs, in the scope lora."""
    drawn = model.sample(8, seed=2)
    config, parameters = rescoped(model.config, model.parameters, "lora")
    lora = replace(model, config=config, parameters=parameters)
    names = [n for n in parameters if ".lora." in n]
    return PairErrors(lora, names, Pairs(drawn[:4], drawn[4:]))


def test_pair_and_reference_share_time_and_noise(errors):
    winners, losers = errors.draws(torch.arange(4), 3, 7)
    for first, second in zip(winners[1:], losers[1:], strict=True):  # all but the images
        assert torch.equal(first, second)
    assert not torch.equal(winners[0], losers[0])
    assert winners[4].all()  # every drawing sees the whole support
    start = errors.at(errors.reference, (winners, losers))
    assert margins(start, start).abs().max() == 0
    assert not torch.equal(errors.draws(torch.arange(4), 3, 8)[0][1], winners[1])


def test_a_step_goes_down_the_gradient_in_float64(errors):
    """The gradient of the loss by autograd, against differences of its formula in float64."""
    draws = errors.draws(torch.arange(4), 0, 0)
    generator = errors._generator.double()
    draws = tuple(tuple(t.double() if t.is_floating_point() else t for t in d) for d in draws)
    start = {n: p.double() for n, p in errors.reference.items()}
    weights = {n: (p + 0.05 * torch.randn_like(p)).requires_grad_() for n, p in start.items()}
    beta = 30.0

    def loss(weights):
        with torch.no_grad():
            reference = errors.at(start, draws)
        return direct_preference(beta)(errors.at(weights, draws), reference)

    name = next(n for n in weights if n.endswith(".up"))
    [gradient] = torch.autograd.grad(loss(weights), [weights[name]])
    towards, step = torch.randn_like(gradient), 1e-5
    plus, minus = (
        loss({**weights, name: weights[name] + sign * step * towards}).item() for sign in (1, -1)
    )
    assert (gradient * towards).sum().item() == pytest.approx((plus - minus) / (2 * step), rel=1e-5)
    # And the loss is the paper's, from velocities on: eq. 14 with a mean over values.
    expected = 0.0
    with torch.no_grad():
        reference = errors.at(start, draws)
        errors_now = errors.at(weights, draws)
        for i in range(4):
            gain = errors_now.winners[i] - reference.winners[i]
            gain = gain - (errors_now.losers[i] - reference.losers[i])
            expected -= torch.sigmoid(-0.5 * beta * gain).log().item() / 4
    assert loss(weights).item() == pytest.approx(expected, rel=1e-10)
    generator.float()


def test_errors_by_example_have_the_loss_as_their_mean(model):
    generator = model.generator().eval()
    draw = generator.prepare(support_batch(model.support, 0, 0))
    by_example = generator.objective.errors(generator.network, draw)
    assert by_example.shape == (len(model.support),)
    assert by_example.mean().item() == pytest.approx(generator(*draw).item(), rel=1e-6)


def test_a_training_lowers_its_own_loss(errors):
    loss, rows = direct_preference(2000.0), torch.arange(4)
    training = Training(errors, rows, loss, FAST)
    draws = errors.draws(rows, 0, 0)

    def value():
        with torch.no_grad():
            reference = errors.at(errors.reference, draws)
            return preference_loss(
                margins(errors.at(training.weights, draws), reference), 2000.0
            ).mean()

    before = value()
    assert before.item() == pytest.approx(0.6931, abs=1e-4)
    for _ in range(5):
        training.step()
    assert value() < before


def test_the_command_writes_a_model_like_any_other(adapted, choices, tmp_path, capsys):
    out = tmp_path / "preferred"
    command = ["prefer", adapted, choices, "--out", out, "--steps", 2, "--lr", 0.003]
    assert metatrain(*command) == 0
    shown = capsys.readouterr()
    assert shown.out.strip() == f"{out}/adapted.safetensors"
    assert "Held-out choices that direct preference foresaw: " in shown.err
    assert "Beside it, best of n: " in shown.err
    assert "how consistent the rater is stays unknown" in shown.err
    assert metatrain("generate", out, "-n", 4, "--out", tmp_path / "sheet.png") == 0
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    # And it can be compared and preferred on, as any adapted model.
    assert len(rate(library.load(out / "adapted.safetensors"), tmp_path / "more", 10)) > 0


def test_what_choices_are_about_is_not_written_over(adapted, choices, capsys):
    before = (adapted / "adapted.safetensors").read_bytes()
    assert metatrain("prefer", adapted, choices, "--out", f"{adapted}/", "--steps", 2) == 1
    assert "--out is the folder of the adapted model; give another one" in capsys.readouterr().err
    assert (adapted / "adapted.safetensors").read_bytes() == before


def test_nothing_is_written_where_choices_teach_nothing(adapted, model, tmp_path, capsys):
    coin = itertools.cycle([1.0, -1.0, -1.0])
    url = rate(model, tmp_path, 12, lambda images: torch.tensor([next(coin), 0.0]))
    command = ["prefer", adapted, url, "--out", tmp_path / "out", "--steps", 1, "--lr", 1.0]
    assert metatrain(*command) == 1
    shown = capsys.readouterr().err
    assert "foresaw held-out choices better than the model as it was" in shown
    assert "nothing is written" in shown
    assert not (tmp_path / "out" / "adapted.safetensors").exists()


def copied(choices, tmp_path):
    """A copy of choices, to be damaged: its file, and its first image."""
    for file in Path(choices).parent.rglob("*"):
        if file.is_file():
            place = tmp_path / file.relative_to(Path(choices).parent)
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(file.read_bytes())
    first = read_choices(choices)[0]
    return tmp_path / "choices.jsonl", tmp_path / "images" / f"{first.left.sha256}.png"


def test_images_are_those_that_were_chosen(model, choices, tmp_path):
    file, image = copied(choices, tmp_path)
    whole, other = image.read_bytes(), next(p for p in image.parent.iterdir() if p != image)
    for content, reason in [
        (other.read_bytes(), "another image"),
        (whole[:40], "cannot be used"),
        (b"no image", "cannot be used"),
        (None, "nothing at"),
    ]:
        image.unlink()
        if content is not None:
            image.write_bytes(content)
        with pytest.raises(UserError, match=reason) as error:
            prefer(model, str(file))
        assert image.name in str(error.value)
        image.write_bytes(whole)


def test_choices_that_are_too_few_or_of_another_model(base, model, images, choices, tmp_path):
    file, _ = copied(choices, tmp_path)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:9]))
    with pytest.raises(UserError, match=r"9 pairs with a winner, and fewer than 10"):
        prefer(model, str(file))
    tie = lines[0].replace('"answer":"left"', '"answer":"tie"')
    tie = tie.replace('"answer":"right"', '"answer":"tie"')
    file.write_text("".join([tie, *lines[1:10]]))
    with pytest.raises(UserError, match="9 pairs with a winner"):
        read_answers(str(file), model)
    file.write_text("".join(lines[:11]).replace(model.sha256, "0" * 64, 1))
    with pytest.raises(UserError, match=r"line 1 of .* is about drawings of the model 0{12}"):
        prefer(model, str(file))
    with pytest.raises(UserError, match="has not been adapted"):
        prefer(library.load(base), choices)
    with pytest.raises(UserError, match="scope is head; choose one of lora, film"):
        prefer(model, choices, scope="head")


def test_it_goes_part_by_part(model, choices):
    parts = prefer_stepwise(model, choices, settings=FAST, steps=20, stopped=lambda: True)
    *stages, outcome = list(parts)
    assert outcome.steps <= 1  # no more than one check has seen
    assert isinstance(outcome, Outcome)
    assert all(0 <= stage.done <= stage.of for stage in stages)
    assert [s.done for s in stages] == sorted(s.done for s in stages)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (GAN, "objective.name=adversarial has no error of each image"),
        (["inner.scope.name=context"], "only adapted in its scope context"),
        (
            ["objective.name=distill", "objective.teacher.path=t", "learner.name=fomaml"],
            r"objective\.name=distill draws by mean velocities; .* such as a student's teacher",
        ),
        (["objective.name=meanflow"], r"objective\.name=meanflow draws by mean velocities"),
    ],
    ids=["gan", "context", "student", "meanflow"],
)
def test_a_model_that_no_choices_teach_is_refused_before_there_are_any(settings, reason):
    with pytest.raises(UserError, match=reason):
        prefer(adapted_model(*settings), "nowhere/choices.jsonl")
    assert refuse_unteachable(adapted_model()) == "lora"
