"""16 bits of grey from packing to the model file, and in what a model samples."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from image_files import PICTURE, encoded
from medical_files import dicom, nifti
from PIL import Image
from small_models import metatrain as command

import metatrain
from metatrain.base.errors import UserError
from metatrain.config import load_config
from metatrain.data.check import check
from metatrain.data.config import DataConfig
from metatrain.data.decoding.grey_16 import declares_16_bits, png_of_16_bits
from metatrain.data.examples import Examples
from metatrain.data.images import normalise, to_array
from metatrain.data.loader import open_tasks
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packing.pack import pack
from metatrain.data.pictures import from_levels, lossless, to_levels
from metatrain.model.build import build_theta
from metatrain.model.file import parse_model
from metatrain.model.model import Model
from metatrain.model.support import as_support

RAMP = np.arange(2**16, dtype=np.uint16).reshape(256, 256)


def levels_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def parts_of(folder, count=10, side=16, tasks=9):
    """Write folders of random images of 16 bits; return the folder."""
    stream = np.random.default_rng(0)
    for task in range(tasks):
        for i in range(count):
            path = folder / f"t{task}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            values = stream.integers(0, 2**16, (side, side), dtype=np.uint16)
            path.write_bytes(encoded(Image.fromarray(values), "PNG"))
    return folder


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Random images of 16 bits, packed, and their originals."""
    root = tmp_path_factory.mktemp("grey16")
    pack(parts_of(root / "images"), root / "data", bits=16, split=(0.6, 0.2, 0.2))
    return root


def config_of(packed, *changes):
    return load_config(
        None,
        [
            *(f"data.path={packed}/data", "data.bits=16", "data.image_size=16", "data.shots=4"),
            *("data.queries=4", "generator.width=8", "meta.steps=1", "adapt.steps=1"),
            *("objective.sampler.steps=2", "meta.batch=2", *changes),
        ],
    )


def test_every_level_survives_from_packing_to_the_support_of_a_model_file(tmp_path):
    (tmp_path / "in/a").mkdir(parents=True)
    # One image of all levels, and some more so that there is an episode.
    for i, values in enumerate((RAMP, RAMP[::-1], RAMP.T, RAMP[:, ::-1])):
        Image.fromarray(values.copy()).save(tmp_path / f"in/a/{i}.png")
    pack(tmp_path / "in", tmp_path / "data", bits=16, split=(1, 0, 0))
    changes = ("data.shots=2", "data.queries=2", "data.image_size=256")
    config = config_of(tmp_path, *changes)
    source = open_tasks(config.data)
    episode = source.read(source.sampler("train", seed=0, meta_batch=1).plan(0, 0))
    images = [*episode.support.target, *episode.query.target]
    assert len({image.numpy().tobytes() for image in images}) == 4
    for image in images:
        assert (np.sort(to_levels(image, 16).numpy().ravel()) == np.arange(2**16)).all()
    model = Model(config, build_theta(config).copy(), 0, episode.support)
    again = parse_model(model.to_bytes(), "model").support
    assert again is not None
    assert torch.equal(again.target, episode.support.target)
    # And on, through a written image to a support.
    files = [lossless(image, 16) for image in episode.support.target]
    assert torch.equal(as_support(files, config.data).target, episode.support.target)


@given(st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=50), st.integers(8, 16))
def test_levels_keep_their_order_and_number_at_any_depth(values, bits):
    # The greatest is there, which tells how many bits a sensor had.
    values = np.array([[*values, 2**16 - 1]], np.uint16) >> (16 - bits)
    data = encoded(Image.fromarray(values), "TIFF", tiffinfo={281: 2**bits - 1})
    wide = levels_of(normalise(data, bits=16).data)
    assert (np.round(wide * ((2**bits - 1) / 65535)) == values).all()
    if bits == 16:
        assert (wide == values).all()


@given(st.binary(max_size=80), st.integers(0, 80))
def test_a_declaration_is_read_from_any_bytes(tail, cut):
    plain = encoded(Image.fromarray(RAMP[:2]), "PNG")
    declared = png_of_16_bits(Image.fromarray(RAMP[:2]))
    assert declares_16_bits(declared) and not declares_16_bits(plain)
    declares_16_bits(declared[:cut] + tail)


def test_a_dark_image_that_was_made_with_16_bits_stays_dark():
    dark = torch.full((1, 4, 4), -0.9)
    dark[0, 0, 0] = -0.95
    config = DataConfig(image_size=8, bits=16)
    file = lossless(dark.repeat(1, 2, 2), 16)
    assert abs(float(as_support([file], config).target.max()) + 0.9) < 1e-4
    # A model of 8 bits takes it as dark as well.
    assert abs(float(as_support([file], DataConfig(image_size=8)).target.max()) + 0.9) < 1e-2


def test_values_of_12_bits_floats_and_8_bits_are_spread_over_16():
    twelve = (RAMP[:16] >> 4).astype(np.uint16)
    twelve[0, 0] = 4095
    result = levels_of(normalise(encoded(Image.fromarray(twelve), "PNG"), bits=16).data)
    assert (result == np.round(twelve * (65535 / 4095))).all()
    floats = Image.fromarray(np.linspace(-1000, 400, 4096, dtype=np.float32).reshape(64, 64))
    result = levels_of(normalise(encoded(floats, "TIFF"), bits=16).data)
    assert result.min() == 0 and result.max() == 65535 and len(np.unique(result)) == 4096
    eight = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    image = normalise(encoded(eight, "PNG"), bits=16)
    assert (levels_of(image.data) == np.asarray(eight).astype(int) * 257).all()
    assert image.notes == ("8-bit: spread over 16",)


def test_resampling_keeps_the_values_between_levels_of_8_bits():
    image = normalise(encoded(Image.fromarray(RAMP), "PNG"), size=64, bits=16)
    values = levels_of(image.data).astype(int)
    inner = np.unique(np.diff(values[8:-8, 8:-8], axis=1))
    assert set(inner) <= {3, 4, 5} and values.dtype == int
    decoded = to_array(normalise(encoded(Image.fromarray(RAMP), "PNG"), bits=16).data, 64, 1)
    assert (decoded[0] == values).all() and decoded.dtype == np.uint16
    assert to_array(image.data, 64, 3).dtype == np.uint8


def test_medical_files_keep_the_values_of_their_window(tmp_path):
    (tmp_path / "in").mkdir()
    values = RAMP[:64, :64].copy()
    for i in range(2):
        data = dicom(values + 7 * i, f"MRN-{i}", WindowCenter="32768", WindowWidth="65536")
        (tmp_path / f"in/{i}.dcm").write_bytes(data)
    volume = np.arange(8 * 8 * 4, dtype=np.int16).reshape(8, 8, 4) * 100
    (tmp_path / "in/v.nii").write_bytes(nifti(volume))
    pack(tmp_path / "in", tmp_path / "data", bits=16, patient_salt=tmp_path / "salt")
    store = EpisodeStore(str(tmp_path / "data"))
    images = [
        levels_of(data)
        for split in ("train", "val", "test")
        for task in store.tasks(split)
        for data in store.read(task)
    ]
    assert all(image.dtype == np.uint16 for image in images)
    assert {len(np.unique(image)) for image in images} == {64 * 64, 64}


@pytest.mark.parametrize("option", [{"raw": True, "size": 8}, {"photos": True}, {"bits": 12},
                                    {"background": "keep"}])  # fmt: skip
def test_what_has_no_16_bits_is_refused_before_anything_is_read(tmp_path, option):
    (tmp_path / "in/a").mkdir(parents=True)
    with pytest.raises(UserError, match=r"16 bits are kept of grey|bits is 12; it must be 8 or 16"):
        pack(tmp_path / "in", tmp_path / "data", **{"bits": 16, **option})


def test_colours_are_refused_image_by_image(tmp_path, caplog):
    folder = parts_of(tmp_path / "in", count=2, tasks=3)
    PICTURE.save(folder / "t0/colour.png")
    Image.fromarray(RAMP[:8, :8] >> 8).convert("L").convert("LA").save(folder / "t0/opaque.png")
    clear = Image.new("LA", (8, 8), (90, 255))
    clear.putpixel((1, 1), (0, 0))
    clear.save(folder / "t0/clear.png")
    summary = pack(folder, tmp_path / "data", bits=16)
    assert summary.refused == {"colours or transparency": 1} and summary.images == 8
    assert "16 bits are kept of grey alone" in caplog.text


def test_bits_of_the_data_and_of_the_configuration_must_agree(packed, tmp_path):
    with pytest.raises(UserError, match=r"16 bits, and data.bits is 8; set data.bits=16"):
        open_tasks(config_of(packed, "data.bits=8").data)
    with pytest.raises(UserError, match="bits is 16, which grey images alone have"):
        config_of(packed, "data.channels=3")
    eight = tmp_path / "eight"
    pack(packed / "images", eight)
    with pytest.raises(UserError, match=r"holds images of 8 bits, and data.bits is 16"):
        open_tasks(config_of(packed, f"data.path={eight}").data)
    with pytest.raises(UserError, match="other options"):
        pack(packed / "images", eight, bits=16)
    degradations = ("data.tasks.name=degradations", "data.tasks.scale=2")
    with pytest.raises(UserError, match="photographs are packed with 8"):
        open_tasks(config_of(packed, *degradations).data)


def test_a_data_set_of_16_bits_is_whole_grows_and_is_no_other_for_8(packed, tmp_path, capsys):
    assert not check(f"{packed}/data").faults
    assert command("data", "check", f"{packed}/data", "--sheet", tmp_path / "sheet.png") == 0
    assert "16 bits a channel: train with data.bits=16" in capsys.readouterr().out
    assert pack(packed / "images", packed / "data", bits=16, split=(0.6, 0.2, 0.2)).already_packed
    # Nothing is stored, or hashed, that says 8.
    values = DataConfig().model_dump()
    assert "bits" not in values and DataConfig(bits=16).model_dump()["bits"] == 16


def test_arrays_of_16_bits_are_packed_and_adapted_to(tmp_path):
    pairs = [("a", RAMP[i * 8 : i * 8 + 8, :8].copy() + 40000) for i in range(4)]
    pack(pairs, tmp_path / "data", bits=16, split=(1, 0, 0))
    [task] = EpisodeStore(str(tmp_path / "data")).tasks("train")
    assert levels_of(EpisodeStore(str(tmp_path / "data")).read(task)[1]).tolist() == (
        pairs[1][1].tolist()
    )
    config = DataConfig(image_size=8, bits=16)
    assert torch.equal(
        to_levels(as_support(pairs[2][1], config).target, 16).int(),
        torch.tensor(pairs[2][1].astype(int))[None, None],
    )


def test_a_run_of_16_bits_exports_adapts_and_generates_at_16(packed, tmp_path):
    torch.set_num_threads(1)
    model = metatrain.train(config_of(packed, f"run.dir={tmp_path}", "run.name=run"))
    assert model.config.data.bits == 16
    supports = tmp_path / "supports"
    assert command("episodes", packed / "data", "--shots", 2, "--export", supports) == 0
    support = supports / "seed-0/0000/support"
    assert levels_of((support / "0.png").read_bytes()).dtype == np.uint16
    assert command("adapt", tmp_path / "run", support, "--out", tmp_path / "new") == 0
    adapted = metatrain.load(tmp_path / "new/adapted.safetensors")
    assert adapted.support is not None
    expected = np.stack([levels_of(f.read_bytes()) for f in sorted(support.glob("*.png"))])
    assert torch.equal(
        to_levels(adapted.support.target, 16).int()[:, 0], torch.tensor(expected.astype(int))
    )
    assert command("generate", tmp_path / "new", "-n", 3, "--out", tmp_path / "more") == 0
    images = [Image.open(path) for path in sorted((tmp_path / "more").glob("*.png"))]
    assert [image.mode for image in images] == ["I;16"] * 3
    values = from_levels(torch.tensor(np.stack([np.asarray(image) for image in images])))
    assert (values - adapted.sample(3)[:, 0].clamp(-1, 1)).abs().max() <= 1 / 65535 + 1e-6
    assert command("generate", tmp_path / "new", "-n", 3, "--out", tmp_path / "s.png") == 0
    assert Image.open(tmp_path / "s.png").mode == "L"


def test_a_model_file_with_a_support_of_other_bits_is_refused(packed):
    config = config_of(packed)
    model = Model(config, build_theta(config).copy(), 0, Examples(torch.zeros(2, 1, 16, 16)))
    data = model.to_bytes().replace(b'\\"bits\\":16', b'\\"bits\\":8 ')
    with pytest.raises(UserError, match="not of the size and bits of its own configuration"):
        parse_model(data, "theirs")
