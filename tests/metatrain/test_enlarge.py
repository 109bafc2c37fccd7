"""Enlarging photographs: tiles, formats, alpha, profiles, 16 bits, kernels, memory."""

import io
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from photographs import photograph, photos, sr_config  # noqa: F401
from PIL import Image, ImageCms

from metatrain.base.errors import UserError
from metatrain.cli.command import run
from metatrain.cli.commands import COMMANDS
from metatrain.config import load_config
from metatrain.data.degradations.bicubic import resampled
from metatrain.data.degradations.degradation import Degradation
from metatrain.data.degradations.kernels import gaussian
from metatrain.data.photo import Photo, read_photo
from metatrain.model import tiles
from metatrain.model.build import build_theta
from metatrain.model.estimate import estimated
from metatrain.model.model import Model
from metatrain.model.self_support import support_of

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def model_of(config):
    """A model whose last layer is not 0, so that it does more than a bicubic enlargement."""
    theta = build_theta(config).copy()
    stream = torch.Generator().manual_seed(0)
    for name in theta:
        if ".last.weight" in name:
            theta[name] = 0.02 * torch.randn(theta[name].shape, generator=stream)
    return Model(config, theta, 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_of(sr_config("nowhere", tmp_path_factory.mktemp("run")))


def test_tiles_give_what_the_whole_gives(model, monkeypatch):
    photo = Photo(photograph(0, 61, 83))
    whole = model.enlarge(photo, steps=0).pixels
    monkeypatch.setattr(tiles, "_TILE", 24)
    tiled = model.enlarge(photo, steps=0).pixels
    assert whole.shape == (122, 166, 3)
    assert np.abs(whole.astype(int) - tiled).max() <= 1
    assert (whole != tiled).mean() < 1e-3


def test_without_a_correction_it_is_the_bicubic_enlargement(tmp_path):
    config = sr_config("nowhere", tmp_path)
    pixels = photograph(1, 40, 50)
    result = Model(config, build_theta(config).copy(), 1).enlarge(pixels, steps=0)
    expected = resampled(pixels.transpose(2, 0, 1).astype(np.float64), 2).clip(0, 255)
    assert np.abs(result.pixels.transpose(2, 0, 1) - expected).max() < 0.51


def with_alpha(pixels):
    alpha = np.linspace(0, 255, pixels.shape[1]).round().astype(np.uint8)
    return np.dstack([pixels, np.broadcast_to(alpha, pixels.shape[:2])])


def encoded(pixels, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


RGB = photograph(2, 40, 48)
GREY = RGB[..., 0]
WIDE = GREY.astype(np.uint16) * 257


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("pixels", "kind", "mode"),
    [
        (RGB, "PNG", "RGB"),
        (RGB, "JPEG", "RGB"),
        (RGB, "WEBP", "RGB"),
        (RGB, "TIFF", "RGB"),
        (RGB, "BMP", "RGB"),
        (GREY, "PNG", "L"),
        (GREY, "JPEG", "L"),
        (WIDE, "PNG", "I;16"),
        (WIDE, "TIFF", "I;16"),
        (with_alpha(RGB), "PNG", "RGBA"),
        (with_alpha(RGB), "WEBP", "RGBA"),
        (with_alpha(GREY), "PNG", "LA"),
    ],
)
def test_format_mode_alpha_profile_and_bits_are_kept(tmp_path, channels, pixels, kind, mode):
    config = sr_config("nowhere", tmp_path, f"data.channels={channels}")
    profile = {} if kind == "BMP" else {"icc_profile": PROFILE}
    options = {"lossless": True} if kind == "WEBP" else {}
    result = model_of(config).enlarge(encoded(pixels, kind, **options, **profile), steps=0)
    image = Image.open(io.BytesIO(result.encoded()))
    assert image.format == ("PNG" if kind == "BMP" else kind)
    assert image.mode == mode
    assert image.size == (96, 80)
    assert image.info.get("icc_profile") == profile.get("icc_profile")
    if mode == "I;16":
        values = np.asarray(image).astype(int)
        assert values.max() > 40_000 and len(np.unique(values % 257)) > 100
    if "A" in mode:
        alpha = resampled(pixels[..., -1].astype(np.float64), 2).clip(0, 255)
        tolerance = 0.51 if kind == "PNG" else 2
        assert np.abs(np.asarray(image)[..., -1] - alpha).max() <= tolerance


def test_a_turned_photograph_comes_out_upright(model):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(RGB, "JPEG", exif=exif)
    assert model.enlarge(data, steps=0).image.size == (80, 96)


def test_the_support_is_the_image_and_its_degraded_self():
    pixels, degradation = photograph(3, 45, 70), Degradation(2, gaussian(9, (1, 1)), "direct")
    support = support_of(Photo(pixels), degradation, channels=3, size=16)
    image = pixels.transpose(2, 0, 1) / 127.5 - 1
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 16, 16))[0]
    seen = np.zeros(pixels.shape[:2], bool)
    for target in support.target.numpy():
        [[top, left]] = np.argwhere(np.isclose(windows, target, atol=1e-6).all(axis=(2, 3, 4)))
        seen[top : top + 16, left : left + 16] = True
    assert seen[:44].all()
    son = degradation(image[:, :44], np.random.default_rng(0))[:, :8, :8]
    assert np.allclose(support.given["low"][0].numpy(), son, atol=1e-5)


@pytest.mark.parametrize(("pixels", "levels"), [(GREY, 255), (WIDE, 65535)])
def test_sons_have_the_levels_of_the_image(pixels, levels):
    degradation = Degradation(2, gaussian(9, (1, 1)), "direct")
    photo = Photo(pixels.reshape(*pixels.shape[:2], 1))
    sons = support_of(photo, degradation, channels=1, size=16).given["low"]
    steps = (sons.double() + 1) * levels / 2
    assert (steps - steps.round()).abs().max() < 0.01
    assert levels == 255 or (steps.round() % 257).unique().numel() > 100


@pytest.mark.parametrize("shape", [(5, 7), (5, 90), (1, 1)])
def test_an_image_smaller_than_a_part_is_enlarged_too(model, shape):
    pixels = photograph(4, *shape)
    for kernel in ("bicubic", "estimate"):
        result = model.enlarge(pixels, steps=1, kernel=kernel)
        assert result.pixels.shape == (2 * shape[0], 2 * shape[1], 3)


def test_adapting_lowers_the_loss_on_the_image_itself(model):
    losses = []
    degraded = Degradation(2, gaussian(9, (1.2, 1.2)), "direct")
    image = photograph(5, 120, 120).transpose(2, 0, 1) / 127.5 - 1
    low = degraded(image, np.random.default_rng(0))
    pixels = ((low.transpose(1, 2, 0) + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    record = lambda step, loss: losses.append(loss)  # noqa: E731
    one = model.enlarge(pixels, kernel="gaussian:1.2", steps=30, on_step=record)
    again = model.enlarge(pixels, kernel=gaussian(9, (1.2, 1.2)), steps=30)
    assert losses[-1] < 0.98 * losses[0]
    assert np.abs(one.pixels.astype(int) - again.pixels).mean() < 1


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.5, 2.0])
def test_the_estimated_blur_grows_with_the_true_one(sigma):
    """On noise with the spectrum of photographs, 1 / f^2 in power, the estimate is near."""
    stream, size = np.random.default_rng(0), 512
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1
    white = np.fft.rfft2(stream.normal(size=(size, size)))
    image = np.fft.irfft2(white / frequency, (size, size))
    image = 0.25 * image / image.std()
    low = Degradation(2, gaussian(21, (sigma, sigma)), "direct")(image[None], stream)
    pixels = ((low[0] + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    kernel = estimated(Photo(pixels[..., None]), 2, "direct").kernel
    places = np.arange(len(kernel)) - len(kernel) // 2
    assert abs(np.sqrt((kernel * places**2).sum()) - sigma) < 0.25


@pytest.mark.parametrize("kernel", ["gaussian:x", "gaussian:0", "nowhere.npy", "sharp", ""])
def test_a_kernel_that_is_none_is_refused(model, kernel):
    with pytest.raises(UserError, match=re.escape(kernel) or "the kernel has no name"):
        model.enlarge(RGB, kernel=kernel)


@pytest.mark.parametrize(
    "image",
    [b"no image", encoded(np.zeros((9, 9), np.float32), "TIFF"), np.zeros((3, 3, 3), np.float32)],
)
def test_what_is_no_photograph_is_refused(model, image):
    with pytest.raises(UserError):
        model.enlarge(image)


def test_a_network_that_diverged_writes_no_pixels(model):
    with pytest.raises(UserError, match=r"diverged: network\..* is not finite after 5 steps"):
        model.enlarge(RGB, steps=5, lr=1e30)
    large = {n: 1e30 * p for n, p in model.parameters.items()}
    with pytest.raises(UserError, match="values are not finite, so it has diverged"):
        replace(model, parameters=large).enlarge(RGB, steps=0)


def test_a_model_of_another_kind_is_refused():
    config = load_config(None, ["data.image_size=16", "generator.width=8"])
    with pytest.raises(UserError, match="not trained to enlarge"):
        Model(config, build_theta(config).copy(), 1).enlarge(RGB)


@pytest.mark.parametrize("out", [".", "./", "../{}", "link"])
def test_no_photograph_is_written_over_itself(model, tmp_path, monkeypatch, capsys, out):
    model.save(tmp_path / "run" / "model.safetensors")
    (tmp_path / "one.png").write_bytes(encoded(RGB, "PNG"))
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    options = ["--model", "run", "--steps", "0", "--out", out.format(tmp_path.name)]
    assert run("metatrain", COMMANDS, ["enlarge", "one.png", *options]) == 1
    assert "the photograph itself" in capsys.readouterr().err
    assert (tmp_path / "one.png").read_bytes() == encoded(RGB, "PNG")


def test_the_command_enlarges_every_photograph(model, tmp_path, capsys):
    model.save(tmp_path / "run" / "model.safetensors")
    for name, kind in (("one.png", "PNG"), ("two.jpg", "JPEG")):
        (tmp_path / name).write_bytes(encoded(RGB, kind))
    files = [str(tmp_path / "one.png"), str(tmp_path / "two.jpg")]
    options = ["--model", str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--steps", "1"]
    assert run("metatrain", COMMANDS, ["enlarge", *files, *options, "--scale", "2"]) == 0
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == ["one.png", "two.jpg"]
    assert Image.open(tmp_path / "out" / "one.png").size == (96, 80)
    assert str(tmp_path / "out" / "two.jpg") in capsys.readouterr().out
    wrong = [
        ([*files, *options, "--scale", "4"], "trained to enlarge by 2"),
        ([files[0], files[0], *options], "two photographs"),
        ([files[0], *options[:2], "--out", str(tmp_path)], "the photograph itself"),
        ([str(tmp_path / "none.png"), *options], "none.png"),
    ]
    for arguments, words in wrong:
        assert run("metatrain", COMMANDS, ["enlarge", *arguments]) == 1
        assert words in capsys.readouterr().err


MEMORY = """
import resource, sys
import numpy as np
from metatrain.model.file import load_model
model = load_model(sys.argv[1], trust=True)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
pixels = np.zeros((600, 800, 3), np.uint8)
model.enlarge(pixels, steps=1)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.long
def test_memory_grows_by_little_more_than_the_pixels(model, tmp_path):
    """Measure the memory for half a megapixel: 1.4 MB in, 6 MB out, tiles and support."""
    model.save(tmp_path / "model.safetensors")
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "model.safetensors")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout) < 200e6


def test_a_photograph_read_is_the_photograph_written():
    for pixels in (RGB, with_alpha(RGB), WIDE[..., None]):
        photo = Photo(pixels, "PNG", PROFILE)
        again = read_photo(photo.encoded())
        assert np.array_equal(again.pixels, pixels)
        assert again.profile == PROFILE
