"""Our own codec: its training, its file, latents stored with data, and models that carry it."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from safetensors.torch import load_file, save, save_file
from small_models import metatrain
from torch.distributions import Normal, kl_divergence

import metatrain as api
from metatrain.base.errors import UntrustedError, UserError
from metatrain.config import load_config
from metatrain.data.check import check
from metatrain.data.images import BadValue
from metatrain.data.loader import load_episodes, open_tasks
from metatrain.data.packed.latents import decode_latents, encode_latents
from metatrain.data.packed.manifest import LATENTS_KEY, MANIFEST
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packing.pack import pack
from metatrain.data.pictures import on_white
from metatrain.evaluation.reconstruction import psnr, reconstructions
from metatrain.generators import frozen
from metatrain.generators.codecs.trained import Trained, TrainedConfig, codec_bytes
from metatrain.generators.frozen import FrozenWeights
from metatrain.generators.networks.autoencoder import Autoencoder, AutoencoderConfig
from metatrain.generators.networks.metric_network import MetricNetwork
from metatrain.generators.objectives.autoencode import autoencoding_loss, perceptual_distance
from metatrain.model.build import build_generator, build_theta
from metatrain.model.file import load_model
from metatrain.model.model import Model
from metatrain.model.portable import portable
from metatrain.storage.files import read_file
from metatrain.storage.tensor_file import TensorFile
from metatrain.training.encoding import encode_data
from metatrain.training.initial_weights import initial_weights
from metatrain.training.run_data import encoded_source, training_sampler

TASKS, IMAGES, SIZE = 10, 8, 16
TINY = ["generator.width=4", "meta.batch=2", "checkpoint.every=4"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    """Squares of flat colours on white."""
    root, noise = tmp_path_factory.mktemp("squares"), np.random.default_rng(0)
    folder = root / "images"
    folder.mkdir()
    for task in range(TASKS):
        (folder / f"t{task}").mkdir()
        for image in range(IMAGES):
            pixels = np.full((SIZE, SIZE, 3), 255, np.uint8)
            x, y = noise.integers(0, 8, 2)
            pixels[y : y + 8, x : x + 8] = noise.integers(0, 255, 3)
            Image.fromarray(pixels).save(folder / f"t{task}" / f"{image}.png")
    pack(str(folder), str(root / "packed"), split=(0.5, 0.2, 0.3))
    return str(root / "packed")


@pytest.fixture(scope="module")
def codec(data, tmp_path_factory) -> Path:
    """A codec of a few steps, by the command, which is given twice and resumes."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("codec") / "own.safetensors"
    for steps in (4, 8):
        words = ["codec", "train", data, *TINY, "--out", out, "--steps", steps, "--channels", 3]
        assert metatrain(*words) == 0
    return out


@pytest.fixture(scope="module")
def encoded(data, codec, tmp_path_factory) -> str:
    dest = str(tmp_path_factory.mktemp("encoded") / "set")
    assert metatrain("encode", data, "--codec", codec, "--out", dest) == 0
    return dest


def run_config(url, codec, folder, *overrides):
    return load_config(
        None,
        [
            *(f"run.dir={folder}", "run.name=latent", f"data.path={url}", "data.channels=3"),
            *(f"data.image_size={SIZE}", "data.shots=2", "data.queries=2", "generator.width=8"),
            *("codec.name=trained", f"codec.path={codec}", "objective.sampler.steps=2"),
            *("inner.steps=1", "meta.steps=2", "adapt.steps=1", *overrides),
        ],
    )


def test_training_resumes_and_says_what_can_be_reached(data, codec):
    model = load_model(f"{codec.parent}/own-training", trust=True)
    assert model.step == 8
    page = (codec.parent / "own.html").read_text()
    ceiling = reconstructions(
        Trained(TrainedConfig(path=str(codec))),
        EpisodeStore(data),
        "test",
        size=SIZE,
        channels=3,
        tasks=9,
    )
    assert f"{sum(r.psnr for r in ceiling) / len(ceiling):.1f} dB" in page
    assert "data:image/png" in page


def test_latents_have_mean_0_and_variance_1(data, codec):
    own, store = Trained(TrainedConfig(path=str(codec))), EpisodeStore(data)
    images = torch.cat(list(store.task_images("train", SIZE, 3)))
    with torch.no_grad():
        latents = own.encode(images).transpose(0, 1).flatten(1)
    assert own.shape(3, SIZE) == (3, 4, 4)
    torch.testing.assert_close(latents.mean(1), torch.zeros(3), atol=0.02, rtol=0)
    torch.testing.assert_close(latents.std(1), torch.ones(3), atol=0.02, rtol=0)


@pytest.mark.parametrize("factor", [4, 8])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_size_that_the_factor_divides_comes_back(factor, channels):
    torch.manual_seed(0)
    config = AutoencoderConfig(factor=factor, latent_channels=5, width=4)
    network = Autoencoder(config, (channels, 32, 32))
    for size in (factor, 3 * factor, 48):
        images = torch.rand(2, channels, size, size)
        latents = network.encode(images)
        assert latents.shape[1:] == network.latent_shape((channels, size, size))
        assert network.decode(latents).shape == images.shape
    with pytest.raises(UserError, match=f"a multiple of {factor} a side, and data has 33"):
        Autoencoder(config, (channels, 33, 33))


def test_a_new_autoencoder_projects_patches():
    """Before training it is linear, and applying it twice changes nothing."""
    torch.manual_seed(0)
    network = Autoencoder(AutoencoderConfig(latent_channels=6, width=4), (3, 8, 8)).double()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    once = network.decode(network.encode(images))
    torch.testing.assert_close(network.decode(network.encode(once)), once, atol=1e-5, rtol=0)
    assert (once - images).abs().max() > 0.1


def test_the_loss_is_that_of_the_formula(tmp_path):
    torch.manual_seed(0)
    network = Autoencoder(AutoencoderConfig(latent_channels=2, width=4), (4, 8, 8)).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    judge = MetricNetwork(3)
    save_file(judge.state_dict(), tmp_path / "metric.safetensors")
    images, noise = torch.rand(2, 3, 4, 8, 8).double().flatten(1, 1).chunk(2)
    images, noise = images[0][:, :4] * 2 - 1, noise[0][:, :4]
    mean, log_variance = network.distribution(images)
    latents = Normal(mean, (log_variance / 2).exp())
    decoded = network.decode(mean + latents.scale * noise.flatten(1)[:, :8].view_as(mean))
    divergence = kl_divergence(latents, Normal(torch.zeros(()).double(), 1.0)).mean()
    expected = (decoded - images).abs().mean() + 0.3 * divergence
    torch.testing.assert_close(autoencoding_loss(network, images, noise, kl=0.3), expected)
    features = FrozenWeights(path=str(tmp_path / "metric.safetensors"))
    single = network.float()
    plain, judged = (
        autoencoding_loss(single, images.float(), noise.float(), features=f, perceptual=0.5)
        for f in (None, features)
    )
    white = [on_white(batch).float() for batch in (decoded, images)]
    distance = perceptual_distance(judge, *white)
    torch.testing.assert_close(judged - plain, 0.5 * distance, atol=1e-5, rtol=1e-4)
    assert distance > 0 and perceptual_distance(judge, white[0], white[0]) == 0


@given(arrays(np.float16, (3, 2, 2, 2), elements=st.floats(-6e4, 6e4, width=16)))
def test_latents_of_half_precision_come_back_exactly(values):
    latents = torch.from_numpy(values.astype(np.float32))
    assert torch.equal(decode_latents(encode_latents(latents), (2, 2, 2)), latents)


def test_bad_latents_are_refused():
    with pytest.raises(BadValue, match="not finite in float16"):
        encode_latents(torch.full((1, 1, 2, 2), 1e6))
    with pytest.raises(BadValue, match="5 numbers in place of 4"):
        decode_latents([bytes(10)], (1, 2, 2))
    with pytest.raises(BadValue, match="not finite"):
        decode_latents([np.array([np.inf] * 4, "<f2").tobytes()], (1, 2, 2))


def test_psnr_is_that_of_the_mean_squared_error():
    images = torch.zeros(2, 3, 4, 4)
    assert psnr(images + 0.02, images) == pytest.approx(40)
    clear = torch.cat([torch.rand(1, 3, 4, 4), -torch.ones(1, 1, 4, 4)], dim=1)
    other = torch.cat([torch.rand(1, 3, 4, 4), -torch.ones(1, 1, 4, 4)], dim=1)
    assert psnr(clear, other) == float("inf")


BAD_FILES = {
    "lacks tensor": lambda t, m: (t.pop("mean"), m),
    "has an unknown tensor": lambda t, m: t.update(more=torch.ones(1)),
    "has another tensor": lambda t, m: t.update(mean=torch.ones(4, 1, 1)),
    "a codec has float16 or float32": lambda t, m: t.update(mean=t["mean"].bfloat16()),
    "a channel of latents without variance": lambda t, m: t.update(std=0 * t["std"]),
    "is not finite": lambda t, m: t.update(mean=t["mean"] * float("nan")),
    "this metatrain reads metatrain-codec-1": lambda t, m: m.update(format="metatrain-codec-9"),
    "is no codec of metatrain codec train": lambda t, m: m.update(autoencoder='{"width": 99999}'),
    "it has 7 channels": lambda t, m: m.update(channels="7"),
}


@pytest.mark.parametrize("sentence", BAD_FILES)
def test_a_file_that_is_no_codec_is_a_sentence(codec, tmp_path, sentence):
    tensors = load_file(codec)
    config = AutoencoderConfig(latent_channels=3, width=4).model_dump_json()
    metadata = {"format": "metatrain-codec-1", "channels": "3", "autoencoder": config}
    BAD_FILES[sentence](tensors, metadata)
    save_file(tensors, tmp_path / "bad.safetensors", metadata)
    with pytest.raises(UserError, match=sentence):
        Trained(TrainedConfig(path=f"{tmp_path}/bad.safetensors"))


def test_a_codec_in_single_precision_is_the_same(codec, tmp_path):
    single = {name: tensor.float() for name, tensor in load_file(codec).items()}
    config = AutoencoderConfig(latent_channels=3, width=4).model_dump_json()
    metadata = {"format": "metatrain-codec-1", "channels": "3", "autoencoder": config}
    save_file(single, tmp_path / "single.safetensors", metadata)
    files = (codec, tmp_path / "single.safetensors")
    half, whole = (Trained(TrainedConfig(path=str(file))) for file in files)
    images = torch.rand(1, 3, SIZE, SIZE)
    assert torch.equal(half.encode(images), whole.encode(images))


def test_weights_that_half_precision_cannot_hold_are_a_sentence():
    network = Autoencoder(AutoencoderConfig(latent_channels=2, width=4), (3, 8, 8))
    torch.nn.init.constant_(next(network.parameters()), 1e6)
    with pytest.raises(UserError, match="not finite in half precision"):
        codec_bytes(network, torch.zeros(2), torch.ones(2), {})


def test_encoded_data_has_the_same_images_and_is_whole(data, encoded):
    before, now = EpisodeStore(data), EpisodeStore(encoded)
    for split in ("train", "val", "test"):
        for a, b in zip(before.tasks(split), now.tasks(split), strict=True):
            assert a == b and before.read(a) == now.read(b)
    card = check(encoded)
    assert not card.faults and "latents: 3 x 4 x 4, by the codec with sha256" in str(card)


def test_captions_of_any_letters_are_as_they_were_packed(data, codec, tmp_path):
    pictures = sorted((Path(data).parent / "images").glob("t0/*"))
    table = [{"path": str(p), "task": "t", "words": f"“{p.stem}” ĉ 字"} for p in pictures]
    (tmp_path / "table.jsonl").write_text("\n".join(map(json.dumps, table)))
    packed, dest = str(tmp_path / "packed"), str(tmp_path / "encoded")
    root = str(pictures[0].parent)
    pack(tmp_path / "table.jsonl", packed, root=root, conditions={"words": "text"}, split=(1, 0, 0))
    encode_data(packed, TrainedConfig(path=str(codec)), dest)
    assert not check(dest).faults
    before, now = EpisodeStore(packed), EpisodeStore(dest)
    [task] = now.tasks("train")
    assert now.read_columns(task, ["words"]) == before.read_columns(task, ["words"])


def test_training_reads_latents_alone_by_one_request(data, encoded, codec, tmp_path):
    config = run_config(encoded, codec, tmp_path)
    pixels = open_tasks(config.data)
    latents = encoded_source(pixels, config)
    generator, sampler = build_generator(config), training_sampler(pixels, config)
    for step in range(3):
        plan = sampler.plan(step, 0)
        seen = pixels.read(plan)
        latents.traffic.take()
        episode = latents.read(plan)
        traffic = latents.traffic.take()
        assert traffic["requests"] == 1
        assert traffic["bytes"] == plan.task.count * (4 + 2 * 3 * 4 * 4)
        for a, b in ((episode.support, seen.support), (episode.query, seen.query)):
            torch.testing.assert_close(a.target, generator.latents(b).target, atol=2e-3, rtol=2e-3)
        assert torch.equal(generator.latents(episode.support).target, episode.support.target)
    plain = run_config(data, codec, tmp_path)
    assert not next(load_episodes(open_tasks(plain.data), sampler, start=0))[0].support.encoded


def test_a_model_carries_its_codec(data, encoded, codec, tmp_path, monkeypatch, capsys):
    """Pack, train a codec, encode, train, validate; then the codec's file is gone."""
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(codec.read_bytes())
    validation = ["validation.tasks=2", "validation.images=2", "validation.points=1"]
    api.train(run_config(encoded, moved, tmp_path, *validation))
    moved.unlink()
    monkeypatch.setattr(frozen, "_INSIDE", {})
    run, pictures = tmp_path / "latent", Path(data).parent / "images/t0"
    assert metatrain("adapt", run, pictures, "--out", tmp_path / "adapted") == 0
    monkeypatch.setattr(frozen, "_INSIDE", {})
    assert (
        metatrain("generate", tmp_path / "adapted", "-n", 2, "--out", tmp_path / "sheet.png") == 0
    )
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.mode == "RGB"
    words = ["evaluate", run, "--tasks", 3, "--seeds", 1, "--workers", 1, "--out", tmp_path / "e"]
    assert metatrain(*words) == 0
    assert "own task" in capsys.readouterr().out
    model = load_model(str(run))
    monkeypatch.setattr(frozen, "_INSIDE", {})
    bare = replace(model, frozen={}).to_bytes()
    (tmp_path / "bare.safetensors").write_bytes(bare)
    with pytest.raises(UserError, match=r"bare.safetensors cannot be used: .*moved\.safetensors"):
        load_model(f"{tmp_path}/bare.safetensors")
    [sha256] = model.frozen
    assert str(tmp_path) not in portable(model, "small").config.model_dump_json()
    wrong = replace(model, frozen={sha256: b"another"}).to_bytes()
    (tmp_path / "wrong.safetensors").write_bytes(wrong)
    with pytest.raises(UserError, match="a file inside is another than its hash says"):
        load_model(f"{tmp_path}/wrong.safetensors")


def test_a_strangers_model_with_its_codec_inside_asks_for_no_place(codec, tmp_path, monkeypatch):
    monkeypatch.setattr(frozen, "_INSIDE", {})
    section = TrainedConfig(path=str(codec)).pinned()
    config = run_config("nowhere", codec, tmp_path).model_copy(update={"codec": section})
    parameters, inside = build_theta(config).copy(), {str(section.sha256): codec.read_bytes()}
    away = section.model_copy(update={"path": "http://127.0.0.1:9/codec.safetensors"})
    model = Model(config.model_copy(update={"codec": away}), parameters, 0, frozen=inside)
    model.save(tmp_path / "theirs.safetensors")
    assert load_model(f"{tmp_path}/theirs.safetensors").frozen == inside
    monkeypatch.setattr(frozen, "_INSIDE", {})
    replace(model, frozen={}).save(tmp_path / "bare.safetensors")
    with pytest.raises(UntrustedError, match="asks for http"):
        load_model(f"{tmp_path}/bare.safetensors")


def test_latents_of_another_codec_or_size_are_a_sentence(encoded, codec, tmp_path):
    other = tmp_path / "other.safetensors"
    save_file(
        {n: t + 0.01 for n, t in load_file(codec).items()},
        other,
        {
            **{"format": "metatrain-codec-1", "channels": "3"},
            "autoencoder": AutoencoderConfig(latent_channels=3, width=4).model_dump_json(),
        },
    )
    with pytest.raises(UserError, match="has the latents of a codec with sha256"):
        api.train(run_config(encoded, other, tmp_path))
    with pytest.raises(UserError, match="has the latents of images of 16 pixels"):
        api.train(run_config(encoded, codec, tmp_path, "data.image_size=8"))


def test_encoded_data_neither_grows_nor_is_written_onto_itself(data, encoded, codec):
    with pytest.raises(UserError, match="is the data set itself"):
        encode_data(data, TrainedConfig(path=str(codec)), data)
    with pytest.raises(UserError, match="choose another DEST"):
        encode_data(data, TrainedConfig(path=str(codec)), encoded)
    with pytest.raises(UserError, match="has latents, which new images would lack"):
        pack(str(Path(data).parent / "images"), encoded)


@pytest.mark.parametrize(
    "change",
    [
        {"codec": "x"},
        {"shape": [3, 4]},
        {"shape": [3, 4, 2**20]},
        {"shape": [3, 4, 0]},
        {"more": 1},
    ],
)
def test_impossible_latents_of_a_manifest_are_a_sentence(encoded, change):
    table = pq.read_table(pa.BufferReader(read_file(f"{encoded}/{MANIFEST}")))
    metadata = table.schema.metadata
    values = json.loads(metadata[LATENTS_KEY]) | change
    buffer = io.BytesIO()
    changed = table.replace_schema_metadata({**metadata, LATENTS_KEY: json.dumps(values)})
    pq.write_table(changed, buffer, write_page_checksum=True)
    with pytest.raises(UserError, match="malformed"):
        EpisodeStore(encoded, manifest=buffer.getvalue())


def test_latents_beyond_their_row_group_are_refused(encoded):
    table = pq.read_table(pa.BufferReader(read_file(f"{encoded}/{MANIFEST}")))
    values = json.loads(table.schema.metadata[LATENTS_KEY]) | {"shape": [3, 400, 400]}
    metadata = {**table.schema.metadata, LATENTS_KEY: json.dumps(values)}
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), buffer, write_page_checksum=True)
    with pytest.raises(UserError, match="has its latents outside of its range"):
        EpisodeStore(encoded, manifest=buffer.getvalue())


def test_parts_that_do_not_fit_are_a_sentence(data, tmp_path, capsys):
    with pytest.raises(UserError, match=r"needs generator\.name=autoencoder"):
        build_generator(load_config(None, ["objective.name=autoencode"]))
    with pytest.raises(UserError, match="needs a generator that predicts a velocity"):
        build_generator(load_config(None, ["generator.name=autoencoder"]))
    taef2 = ["codec.name=taef2", "codec.encoder.path=e", "codec.decoder.path=d"]
    with pytest.raises(UserError, match=r"and codec\.name is taef2; leave codec out"):
        load_config(None, ["objective.name=autoencode", *taef2])
    overrides = ["generator.name=autoencoder", "generator.latent_channels=17"]
    with pytest.raises(UserError, match="4 x 4 pixels have 16 values"):
        build_generator(load_config(None, [*overrides, "objective.name=autoencode"]))
    assert metatrain("codec", "train", data, "--out", tmp_path / "codec.bin") == 1
    assert "give it a name that ends with .safetensors" in capsys.readouterr().err
    words = ["codec", "train", data, "--out", tmp_path / "c.safetensors", "objective.name=flow"]
    assert metatrain(*words) == 1
    assert "leave objective.name out" in capsys.readouterr().err
    (tmp_path / "plain.safetensors").write_bytes(save({"a": torch.ones(1)}))
    assert metatrain("encode", data, "--codec", tmp_path / "plain.safetensors", "--out", "x") == 1
    assert "is no codec of metatrain codec train" in capsys.readouterr().err


@pytest.mark.parametrize("place", [0.3, 0.999])
def test_damaged_data_is_not_encoded(data, codec, tmp_path, place):
    shutil.copytree(data, tmp_path / "data")
    shard = tmp_path / "data/data-00000.parquet"
    content = bytearray(shard.read_bytes())
    content[int(place * len(content))] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match=r"data-00000\.parquet is damaged"):
        encode_data(f"{tmp_path}/data", TrainedConfig(path=str(codec)), f"{tmp_path}/encoded")
    assert not (tmp_path / "encoded/manifest.parquet").exists()


def test_words_alone_are_enough_for_a_model_of_latents(codec):
    small = ["generator.width=8", "data.image_size=16", "data.channels=3"]
    parts = ["generator.conditions=[support, text]", "codec.name=trained", f"codec.path={codec}"]
    config = frozen.pinned(load_config(None, [*small, *parts, "objective.sampler.steps=1"]))
    model = Model(config, build_theta(config).copy(), step=1)
    assert model.sample(2, given={"text": "a red fox"}).shape == (2, 3, 16, 16)


def test_a_run_does_not_start_from_the_weights_of_other_latents(codec, tmp_path):
    other = tmp_path / "other.safetensors"
    file = TensorFile(str(codec))
    save_file({n: t + 0.01 for n, t in load_file(codec).items()}, other, file.metadata)
    small = ["generator.width=8", "data.image_size=16", "data.channels=3", "codec.name=trained"]
    trained = frozen.pinned(load_config(None, [*small, f"codec.path={codec}"]))
    Model(trained, build_theta(trained).copy(), step=1).save(tmp_path / "model.safetensors")
    start = [*small, f"run.init={tmp_path}/model.safetensors"]
    same, changed = (
        frozen.pinned(load_config(None, [*start, f"codec.path={path}"])) for path in (codec, other)
    )
    assert initial_weights(same)
    with pytest.raises(UserError, match="trained on the latents of another codec"):
        initial_weights(changed)
