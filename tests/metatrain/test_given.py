"""Conditions beside the support: encoded, dropped, guided, given at use."""

import json
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_models import metatrain

from metatrain.base.errors import MissingStepError, UserError
from metatrain.config import load_config, parse_config
from metatrain.data.batch import support_batch
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.generators.conditions.audio import AudioEncoder, AudioEncoderConfig
from metatrain.generators.conditions.text import TextEncoder, TextEncoderConfig
from metatrain.generators.samplers import guided
from metatrain.model.build import build_generator, build_learner, build_theta
from metatrain.model.file import load_model
from metatrain.model.model import Model

BOTH = "[support, text, audio]"
OF = [f"generator.of.conditions={BOTH}", "generator.of.width=8"]
NETWORKS = {
    "unet": ["generator.width=8", f"generator.conditions={BOTH}"],
    "dit": ["generator.name=dit", "generator.width=16", f"generator.conditions={BOTH}"],
    "ensemble": ["generator.name=ensemble", *OF],
    "mixture": ["generator.name=mixture", *OF],
}
SIZES = ["data.image_size=8", "data.conditions.audio={name: audio, seconds: 0.2}"]
TEXTS = ("a red fox", "", "ثعلب أحمر 🦊")


def config_of(network: str = "unet", *further: str):
    return load_config(None, [*SIZES, *NETWORKS[network], *further])


def moved(module: torch.nn.Module) -> None:
    """Move weights away from layers that start at zero."""
    noise = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=noise, dtype=parameter.dtype)


def examples(seed: int = 0, count: int = 3) -> Examples:
    stream = torch.Generator().manual_seed(seed)
    sounds = torch.rand(count, 24, 64, generator=stream)
    sounds[0], sounds[2, 8:] = 0, 0
    target = torch.rand(count, 1, 8, 8, generator=stream) * 2 - 1
    return Examples(target, {"text": TEXTS[:count], "audio": sounds})


def velocities(generator, batch: Examples) -> torch.Tensor:
    """The velocities of a batch of which no example sees the support."""
    network, encoded = generator.network, generator.encoded(support_batch(batch, 1, 0))
    x = encoded.examples.target
    visible = torch.zeros(len(x), len(x), dtype=torch.bool)
    conditions = network.encode_given(list(encoded.examples.given.values()))
    return network.velocity(x, torch.full((len(x),), 0.5), network.encode(x), visible, conditions)


@pytest.fixture(params=NETWORKS)
def generator(request):
    generator = build_generator(config_of(request.param))
    moved(generator)
    return generator


def test_an_example_sees_its_own_conditions_and_no_other_s(generator):
    batch = examples()
    before = velocities(generator, batch)
    text = {**batch.given, "text": ("a red fox", "a hen", TEXTS[2])}
    other = velocities(generator, Examples(batch.target, text))
    assert [torch.allclose(a, b) for a, b in zip(before, other, strict=True)] == [True, False, True]
    sounds = batch.given["audio"].clone()
    sounds[2, 3] += 1
    other = velocities(generator, Examples(batch.target, {**batch.given, "audio": sounds}))
    assert [torch.allclose(a, b) for a, b in zip(before, other, strict=True)] == [True, True, False]


def test_what_is_missing_is_as_if_the_network_had_no_such_condition(generator):
    batch = examples()
    network = generator.network
    visible = torch.zeros(3, 3, dtype=torch.bool)
    plain = network.velocity(
        batch.target, torch.full((3,), 0.5), network.encode(batch.target), visible
    )
    none = {"text": ("", "", ""), "audio": torch.zeros(3, 24, 64)}
    for conditions in (none, {}, {"text": none["text"]}):
        torch.testing.assert_close(velocities(generator, Examples(batch.target, conditions)), plain)


def test_conditions_leave_the_other_weights_as_they_are():
    with_both, plain = (
        build_generator(config_of()),
        build_generator(load_config(None, [*SIZES[:1], "generator.width=8"])),
    )
    known = dict(with_both.named_parameters())
    assert all(torch.equal(known[name], p) for name, p in plain.named_parameters())
    assert all(".encoders." in n for n in known.keys() - dict(plain.named_parameters()).keys())


def test_tasks_adapt_together_each_with_its_own_words():
    config = config_of("unet", "adapt.steps=2", "adapt.lr=0.01", "inner.scope.name=film")
    generator = build_theta(config)
    moved(generator)
    model = Model(config, generator.copy(), step=1)
    tasks = [examples(seed).target for seed in (0, 1)]
    given = [{"text": "a red fox"}, {}]
    together = model.adapt_tasks(tasks, given=given)
    phis = [
        model.adapt(task, given=words).parameters for task, words in zip(tasks, given, strict=True)
    ]
    for adapted, phi in zip(together, phis, strict=True):
        for name, value in phi.items():
            torch.testing.assert_close(adapted.parameters[name], value, rtol=1e-4, atol=1e-5)
    assert together[0].support.given == {"text": ("a red fox",) * 3}
    without = model.adapt(tasks[0]).parameters
    assert any(not torch.equal(phis[0][name], value) for name, value in without.items())
    with pytest.raises(UserError, match="2 tasks, and conditions of 1"):
        model.adapt_tasks(tasks, given=given[:1])


@settings(max_examples=30)
@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_is_encoded_and_what_is_beyond_its_end_does_not_matter(text, other):
    short, long = (TextEncoder(TextEncoderConfig(length=n), 16) for n in (24, 200))
    long.load_state_dict(short.state_dict())
    values = short.tensor((text, other))
    tokens, visible = short(values)
    assert tokens.isfinite().all()
    count = min(24, len(text.encode(errors="replace"))) if text.isascii() else None
    assert count is None or int(visible[0].sum()) == (count + 1 if count else 0)
    alone, shown = long(long.tensor((text[:5],)))
    together, _ = long(long.tensor((text[:5], other)))
    torch.testing.assert_close(alone[0][shown[0]], together[0][shown[0]])
    few, seen = short(short.tensor((text[:5],)))
    torch.testing.assert_close(few[seen], alone[shown])


def test_loudness_alone_changes_nothing_of_what_is_heard():
    """On a logarithmic scale a louder sound is the same one, moved up where it is heard."""
    encoder, quiet = AudioEncoder(AudioEncoderConfig(), 16), torch.rand(2, 24, 64) + 0.1
    quiet[0, 16:] = 0
    loud = torch.where(quiet > 0, quiet + 0.6, quiet)
    (tokens, heard), (others, _) = encoder(quiet), encoder(loud)
    torch.testing.assert_close(tokens, others, rtol=1e-3, atol=1e-3)
    assert heard.tolist() == [[True, True, False], [True] * 3]
    silent, _ = encoder(torch.zeros(1, 24, 64))
    assert silent.isfinite().all()


def test_each_condition_is_dropped_by_its_own_rate_and_the_seed_decides():
    config = config_of(
        "unet", "generator.conditions.text.dropout=0", "generator.conditions.audio.dropout=0.5"
    )
    generator = build_generator(config)
    batch = Examples(torch.zeros(3, 1, 8, 8), {"text": ("a",) * 3, "audio": torch.ones(3, 24, 64)})
    draws = [generator.prepare(support_batch(batch, seed, 0)) for seed in range(100)]
    assert all(text.any(dim=1).all() for *_, text, _ in draws)
    kept = torch.cat([audio.flatten(1).any(dim=1) for *_, audio in draws]).float().mean()
    assert 0.4 < kept < 0.6
    again = generator.prepare(support_batch(batch, 7, 0))
    assert all(torch.equal(a, b) for a, b in zip(draws[7], again, strict=True))
    generator.eval()
    assert all(generator.prepare(support_batch(batch, s, 0))[-1].all() for s in range(9))


# Guidance

weights_of = st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.0, 3.0]), max_size=4)


@given(weights_of)
def test_guidance_is_the_sum_of_what_each_condition_adds(weights):
    values, calls = [torch.tensor(float(2**i)) for i in range(len(weights) + 1)], set()

    def velocity(i):
        def at(x, time):
            calls.add(i)
            return values[i]

        return at

    combined = guided([velocity(i) for i in range(len(values))], weights)
    steps = zip(weights, pairwise(values), strict=True)
    expected = values[0] + sum(w * (after - before) for w, (before, after) in steps)
    assert combined(torch.zeros(()), 0.0).item() == pytest.approx(float(expected))
    factors = np.diff([-1.0, *[-w for w in weights], 0.0])
    assert calls == {i for i, factor in enumerate(factors) if factor}


def test_guidance_by_a_condition_moves_samples_only_where_it_is_given():
    generator = build_generator(config_of())
    moved(generator)
    support = Examples(examples().target)
    sampler = generator.objective.config.sampler

    def drawn(guidance, **conditions):
        changed = sampler.model_copy(update={"guidance": guidance})
        return generator.sample(support, 2, 0, changed, conditions)

    fox = {"text": ("a red fox",)}
    assert torch.equal(drawn({"text": 3.0}), drawn(1.0))
    assert not torch.allclose(drawn({"text": 3.0}, **fox), drawn(1.0, **fox))
    assert torch.equal(drawn({"support": 2.0}, **fox), drawn(2.0, **fox))
    assert not torch.allclose(drawn(1.0, **fox), drawn(1.0))
    sentence = "guidance is towards 'txt', and the conditions of the model are support, text, audio"
    with pytest.raises(UserError, match=sentence):
        drawn({"txt": 3.0})


# Learning


def test_second_order_and_stacked_tasks_follow_conditions():
    scope = ["learner.name=maml", "inner.scope.name=film", "inner.steps=2", "inner.optimizer=sgd"]
    config = config_of("unet", *scope)
    episodes = [Episode(f"{i}", examples(i), examples(i + 10), i) for i in range(2)]
    theta = build_theta(config)
    moved(theta)

    def gradient(overrides):
        changed = load_config(None, [*SIZES, *NETWORKS["unet"], *scope, *overrides])
        learner = build_learner(changed, build_theta(changed))
        return learner.outer_gradient(theta.copy(), episodes, 0).gradient

    one, two = gradient(["meta.tasks_at_once=1"]), gradient(["meta.tasks_at_once=2"])
    unrolled = gradient(["meta.gradient=unrolled"])
    encoders = [name for name in one if ".encoders." in name]
    assert all(one[name].abs().sum() > 0 for name in encoders if "summaries" in name)
    for other in (two, unrolled):
        for name, slope in one.items():
            torch.testing.assert_close(other[name], slope, rtol=1e-3, atol=1e-5)


# Configuration


def test_a_list_of_conditions_is_read_by_episodes_too():
    config = load_config(None, ["generator.conditions=[support, text, audio]"])
    assert [*config.data.conditions] == ["text", "audio"]
    assert config.generator.conditions["text"].length == 64
    assert parse_config(json.loads(config.model_dump_json())) == config
    changed = load_config(
        None, ["generator.conditions={caption: {name: text, length: 9}}", "generator.name=dit"]
    )
    assert [*changed.data.conditions] == ["caption"]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "generator.conditions=[support, caption]",
            'caption.name is "caption"; allowed is text, w',
        ),
        (
            "generator.conditions={text: {name: text, lenght: 3}}",
            "generator.conditions.text.length",
        ),
        ("generator.conditions={support: text}", "the support has no encoder to choose"),
        ("generator.conditions=3", "generator.conditions is 3"),
        ("generator={conditions: [text], width: 8}", None),
    ],
)
def test_conditions_that_cannot_be_are_a_sentence(override, sentence):
    if sentence is None:
        assert load_config(None, [override]).data.conditions
        return
    with pytest.raises(UserError) as error:
        load_config(None, [override])
    assert sentence in str(error.value)


def test_an_encoder_of_another_kind_than_the_column_is_refused():
    with pytest.raises(UserError, match=r"of the kind text, and data.conditions.text is a"):
        load_config(None, ["generator.conditions=[text]", "data.conditions.text=audio"])


# At use


@pytest.fixture(scope="module")
def model() -> Model:
    config = config_of("unet", "adapt.steps=2", "objective.sampler.steps=2")
    theta = build_theta(config)
    moved(theta)
    return Model(config, theta.copy(), step=1)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("sound") / "hello.flac"
    soundfile.write(path, 0.3 * np.sin(np.arange(48_000) / 20), 48_000)
    return str(path)


def pictures(count: int = 3) -> list[Image.Image]:
    noise = np.random.default_rng(0).integers(0, 256, (count, 8, 8), np.uint8)
    return [Image.fromarray(pixels) for pixels in noise]


def test_a_text_or_a_sound_alone_is_enough(model, sound):
    with pytest.raises(MissingStepError, match="not been adapted"):
        model.sample(2)
    fox, hen = model.sample(3, given={"text": "a fox"}), model.sample(3, given={"text": "a hen"})
    assert fox.shape == (3, 1, 8, 8)
    assert not torch.allclose(fox, hen)
    heard = model.sample(3, given={"audio": Path(sound).read_bytes()})
    assert torch.equal(heard, model.sample(3, given={"audio": sound}))
    assert not torch.allclose(heard, fox)


def test_a_model_keeps_what_its_support_was_given(model, sound, tmp_path):
    adapted = model.adapt(pictures(), given={"text": ["a", "b", "ç"], "audio": sound})
    adapted.save(tmp_path / "adapted.safetensors")
    loaded = load_model(str(tmp_path / "adapted.safetensors"))
    assert loaded.support.given["text"] == ("a", "b", "ç")
    assert loaded.support.given["audio"].shape == (3, 24, 64)
    assert torch.equal(loaded.sample(4), adapted.sample(4))
    assert not torch.allclose(adapted.sample(4), adapted.sample(4, given={"text": "z"}))
    assert not torch.allclose(adapted.sample(4), model.adapt(pictures()).sample(4))


@pytest.mark.parametrize(
    ("conditions", "sentence"),
    [
        ({"txt": "a"}, "no condition 'txt', only text, audio; did you mean 'text'"),
        ({"text": ""}, "'text' cannot be used: empty; give another"),
        ({"text": " \n"}, "'text' cannot be used: empty"),
        ({"text": "x" * 100_000}, "a text of more than 65,536 bytes .100,000."),
        ({"text": ["a", "b"]}, "'text' has 2 values for 3 images; give one for all, or one for"),
        ({"text": []}, "'text' has 0 values"),
        ({"audio": "nowhere.wav"}, "nowhere.wav"),
        ({"audio": b"RIFF"}, "'audio' cannot be used: not a sound, or damaged"),
    ],
)
def test_what_cannot_be_given_is_a_sentence(model, conditions, sentence):
    with pytest.raises(UserError, match=sentence):
        model.adapt(pictures(), given=conditions)


def test_a_huge_sound_is_refused_unread(model, tmp_path):
    with (tmp_path / "days.wav").open("wb") as file:
        file.truncate(10**9)
    tracemalloc.start()
    with pytest.raises(UserError, match="'audio' cannot be used: a file of more than 200 MB; give"):
        model.sample(1, given={"audio": tmp_path / "days.wav"})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10**8


def test_what_is_not_read_is_told(model, sound, caplog):
    model.sample(1, given={"text": "🦊" * 50, "audio": sound})
    assert "'text' is a text of 200 bytes, of which the first 64 are read." in caplog.text
    assert "'audio' is a sound of 1.0 s, of which the first 0.24 are heard." in caplog.text


def test_the_commands_take_texts_and_sounds(model, sound, tmp_path, capsys):
    model.save(tmp_path / "run" / "model.safetensors")
    for number, picture in enumerate(pictures()):
        (tmp_path / "five").mkdir(exist_ok=True)
        picture.save(tmp_path / "five" / f"{number}.png")
    run, new, sheet = tmp_path / "run", tmp_path / "new", tmp_path / "sheet.png"
    assert metatrain(*["adapt", run, tmp_path / "five", "--out", new, "--text", "a red fox"]) == 0
    assert load_model(str(new / "adapted.safetensors")).support.given["text"] == ("a red fox",) * 3
    given = ["--text", "the same, smiling", "--audio", sound]
    weights = ["--guidance", "text=3", "audio=1.5"]
    assert metatrain(*["generate", new, *given, *weights, "--out", sheet, "-n", 2]) == 0
    first = sheet.read_bytes()
    assert metatrain(*["generate", new, "--out", sheet, "-n", 2, "--guidance", "2"]) == 0
    assert sheet.read_bytes() != first
    assert metatrain(*["generate", run, "--text", "שועל", "--out", sheet, "-n", 2]) == 0
    assert metatrain(*["generate", run, "--out", sheet]) != 0
    assert metatrain(*["generate", new, "--out", sheet, "--guidance", "word=2"]) != 0
    assert "conditions of the model are support, text, audio" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        metatrain("generate", new, "--out", sheet, "--guidance", "text")


def test_a_model_without_a_condition_says_how_to_have_one(tmp_path, capsys):
    config = load_config(None, ["data.image_size=8", "generator.width=8"])
    Model(config, build_theta(config).copy(), step=1).save(tmp_path / "model.safetensors")
    assert metatrain(*["generate", tmp_path, "--text", "fox", "--out", tmp_path / "a.png"]) != 0
    assert "train one with generator.conditions=[support, text]" in capsys.readouterr().err
