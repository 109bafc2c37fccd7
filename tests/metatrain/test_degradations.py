"""Degradations: kernels, subsampling, the files of kernels, and the episodes made by them."""

import io
import pickle
import struct
import zlib
from contextlib import suppress
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from photographs import photograph, photos, sr_config, write_photographs  # noqa: F401
from PIL import Image

from metatrain.base.errors import UserError
from metatrain.cli.command import run
from metatrain.cli.commands import COMMANDS
from metatrain.data.degradations.bicubic import bicubic_weights, resampled
from metatrain.data.degradations.degradation import LOW, Degradation, self_pair
from metatrain.data.degradations.kernel_files import read_kernels
from metatrain.data.degradations.kernels import blurred, gaussian, motion
from metatrain.data.loader import load_episodes, open_tasks
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packing.pack import pack
from metatrain.training.run_data import training_sampler


def stream(seed=0):
    return np.random.default_rng(seed)


def values(photo):
    return photo.astype(np.float64).transpose(2, 0, 1) / 127.5 - 1


@given(st.integers(1, 40), st.sampled_from([2, 3, 4, 0.5, 1 / 3, 0.25]))
def test_rows_of_bicubic_weights_sum_to_1_and_a_line_stays_a_line_inside(size, scale):
    weights = bicubic_weights(size, scale)
    assert weights.shape == (round(size * scale), size)
    assert np.allclose(weights.sum(axis=1), 1)
    reach = int(np.ceil(3 * max(scale, 1 / scale)))
    inner = slice(reach, len(weights) - reach)
    places = (np.arange(len(weights)) + 0.5) / scale - 0.5
    if size > 8 / min(scale, 1):
        assert np.allclose((weights @ np.arange(size))[inner], places[inner])


def test_bicubic_reduction_is_that_of_pillow_but_for_edges():
    """Pillow's bicubic has a = -0.5 and antialiasing, too; it renormalises at edges."""
    image = values(photograph(0)).astype(np.float32)
    ours = resampled(image.astype(np.float64), 0.5)
    theirs = np.stack(
        [np.asarray(Image.fromarray(c).resize((56, 48), Image.Resampling.BICUBIC)) for c in image]
    )
    assert np.allclose(ours[:, 4:-4, 4:-4], theirs[:, 4:-4, 4:-4], atol=1e-5)


def test_blurring_is_a_correlation_with_symmetric_edges():
    image, kernel = values(photograph(1, 20, 23)), stream().uniform(size=(5, 5))
    padded = np.pad(image, [(0, 0), (2, 2), (2, 2)], mode="symmetric")
    expected = sum(
        kernel[i, j] * padded[:, i : i + 20, j : j + 23] for i in range(5) for j in range(5)
    )
    assert np.allclose(blurred(image, kernel), expected)


@given(st.floats(0.1, 5), st.floats(0.1, 5), st.floats(0, np.pi), st.floats(1, 13))
def test_kernels_sum_to_1_and_keep_their_centre(one, other, angle, length):
    y, x = np.mgrid[:15, :15] - 7
    for kernel in (gaussian(15, (one, other), angle), motion(15, length, angle)):
        assert kernel.min() >= 0 and np.isclose(kernel.sum(), 1)
        assert np.allclose([(kernel * x).sum(), (kernel * y).sum()], 0, atol=1e-9)


def test_an_anisotropic_gaussian_has_its_sigmas_along_its_axes():
    kernel = gaussian(41, (4.0, 1.5), np.pi / 6)
    y, x = np.mgrid[:41, :41] - 20
    along = x * np.cos(np.pi / 6) + y * np.sin(np.pi / 6)
    across = y * np.cos(np.pi / 6) - x * np.sin(np.pi / 6)
    assert np.isclose((kernel * along**2).sum(), 16, rtol=0.01)
    assert np.isclose((kernel * across**2).sum(), 2.25, rtol=0.01)


def test_direct_subsampling_starts_at_the_first_pixel():
    image = values(photograph(2))
    assert np.array_equal(Degradation(2, subsampling="direct")(image, stream()), image[:, ::2, ::2])


@pytest.mark.parametrize("levels", [255, 65535])
def test_degraded_values_are_those_that_a_file_can_have(levels):
    image = np.random.default_rng(0).uniform(-1.2, 1.2, (1, 24, 24))
    low = Degradation(2, gaussian(5, (1.0, 1.0)), "direct", noise=3, levels=levels)(image, stream())
    steps = (low + 1) * levels / 2
    assert np.allclose(steps, steps.round(), atol=1e-6)
    assert steps.min() >= 0 and steps.max() <= levels


def test_noise_has_its_sigma_and_jpeg_compresses():
    image = np.zeros((3, 96, 96))
    noisy = Degradation(2, noise=10)(image, stream())
    assert np.isclose(noisy.std() * 127.5, 10, rtol=0.05)
    photo = values(photograph(3, 96, 96))
    plain, coarse, fine = (Degradation(2, jpeg=q)(photo, stream()) for q in (None, 10, 95))
    assert abs(coarse - plain).mean() > 2 * abs(fine - plain).mean() > 0


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("place", ["corner", "middle", "end"])
@pytest.mark.parametrize("subsampling", ["direct", "bicubic"])
def test_a_son_is_cut_out_of_the_whole_image_degraded(scale, place, subsampling):
    degradation = Degradation(scale, gaussian(15, (2.0, 1.0), 0.3), subsampling)
    image = values(photograph(4, 96, 96))
    top = {"corner": 0, "middle": 36, "end": 72}[place]
    son, parent = self_pair(image, top, 36, 24, degradation, stream())
    whole = degradation(image, stream())
    cut = slice(top // scale, (top + 24) // scale)
    assert np.allclose(son, whole[:, cut, 36 // scale : 60 // scale])
    assert np.array_equal(parent, image[:, top : top + 24, 36:60])


def matlab(array, *, compressed, order="<"):
    """The bytes of a MATLAB file of level 5 with one matrix of doubles."""

    def element(kind, data):
        return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)

    name = struct.pack(f"{order}I", 1 | 1 << 16) + b"k\0\0\0"
    parts = element(6, struct.pack(f"{order}II", 6, 0))
    parts += element(5, struct.pack(f"{order}ii", *array.shape))
    parts += name + element(9, array.astype(f"{order}f8").tobytes(order="F"))
    matrix = element(14, parts)
    if compressed:
        packed = zlib.compress(matrix)
        matrix = struct.pack(f"{order}II", 15, len(packed)) + packed
    return bytes(124) + struct.pack(f"{order}HH", 0x0100, 0x4D49) + matrix


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


KERNEL = np.arange(1, 36, dtype=np.float64).reshape(5, 7)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.npy", npy(KERNEL)),
        ("b.npy", npy(np.asfortranarray(KERNEL).astype(np.float32))),
        ("c.mat", matlab(KERNEL, compressed=False)),
        ("d.mat", matlab(KERNEL, compressed=True)),
        ("e.mat", matlab(KERNEL, compressed=True, order=">")),
    ],
)
def test_a_measured_kernel_is_read_made_odd_and_sums_to_1(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    [kernel] = read_kernels(str(tmp_path / name))
    assert kernel.shape == (7, 7)
    assert np.allclose(kernel[1:6] * KERNEL.sum(), KERNEL)
    assert not kernel[0].any() and not kernel[6].any()


def test_a_folder_and_a_stack_give_all_their_kernels(tmp_path):
    (tmp_path / "stack.npy").write_bytes(npy(np.stack([KERNEL[:, :5]] * 3)))
    (tmp_path / "one.mat").write_bytes(matlab(KERNEL, compressed=True))
    (tmp_path / "notes.txt").write_text("not a kernel")
    assert len(read_kernels(str(tmp_path))) == 4


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.npy", npy(np.array([{"run": "me"}], dtype=object))),
        ("b.npy", npy(KERNEL)[:-1]),
        ("c.npy", npy(np.full((3, 3), np.nan))),
        ("d.npy", npy(np.zeros((3, 3)))),
        ("e.npy", npy(np.ones(9))),
        ("f.npy", npy(np.ones((300, 3)))),
        ("g.npy", b""),
        ("h.mat", b"\x89HDF\r\n" + bytes(300)),
        ("i.mat", matlab(KERNEL, compressed=False)[:200]),
        ("j.mat", matlab(KERNEL, compressed=True)[:170]),
        ("k.txt", b"1 2 3"),
    ],
)
def test_what_is_no_kernel_is_refused_in_a_sentence(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=name):
        read_kernels(str(tmp_path / name))


@given(st.data())
def test_a_damaged_matlab_file_never_fails_in_another_way(tmp_path_factory, data):
    whole = bytearray(matlab(KERNEL, compressed=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(126, len(whole) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "damaged.mat"
    file.write_bytes(whole)
    with suppress(UserError):
        read_kernels(str(file))


def test_photographs_are_packed_whole_and_large_ones_in_tiles(tmp_path):
    write_photographs(tmp_path / "source", 3)
    (tmp_path / "source" / "deep" / "er").mkdir(parents=True)
    large = photograph(9, 700, 1100)
    Image.fromarray(large).save(tmp_path / "source" / "deep" / "er" / "large.jpg", quality=95)
    (tmp_path / "source" / "notes.txt").write_text("no image")
    pack(tmp_path / "source", tmp_path / "packed", photos=True, split=(1, 0, 0))
    store = EpisodeStore(str(tmp_path / "packed"))
    counts = {task.name: task.count for task in store.tasks("train")}
    assert counts == {"00.png": 1, "01.png": 1, "02.png": 1, "deep/er/large.jpg": 6}
    tiles = [
        np.asarray(Image.open(io.BytesIO(tile)))
        for tile in store.read(next(t for t in store.tasks("train") if t.count == 6))
    ]
    rows = [np.concatenate(tiles[i : i + 3], axis=1) for i in (0, 3)]
    decoded = np.asarray(Image.open(tmp_path / "source" / "deep" / "er" / "large.jpg"))
    assert np.array_equal(np.concatenate(rows), decoded)
    assert max(side for tile in tiles for side in tile.shape[:2]) <= 512
    original = (tmp_path / "source" / "00.png").read_bytes()
    assert store.read(store.tasks("train")[0]) == [original]


def test_the_command_packs_photographs_of_a_flat_folder(tmp_path, capsys):
    write_photographs(tmp_path / "photos", 10)
    arguments = ["pack", str(tmp_path / "photos"), str(tmp_path / "packed"), "--photos"]
    assert run("metatrain", COMMANDS, arguments) == 0
    assert "10 tasks" in capsys.readouterr().out
    assert run("metatrain", COMMANDS, [*arguments, "--size", "32"]) == 1
    assert "--size" in capsys.readouterr().err


KINDS = [
    "data.tasks.kernels=[isotropic,anisotropic,bicubic,motion]",
    "data.tasks.subsampling=[direct,bicubic]",
    "data.tasks.noise=5",
    "data.tasks.jpeg=60",
]


def episodes(config, rank=0, world=1, start=0):
    source = open_tasks(config.data)
    sampler = training_sampler(source, config)
    steps = load_episodes(source, sampler, start=start, rank=rank, world=world)
    return list(islice(steps, 4 - start))


def same(one, other):
    return one.task == other.task and all(
        torch.equal(a.target, b.target) and torch.equal(a.given[LOW], b.given[LOW])
        for a, b in ((one.support, other.support), (one.query, other.query))
    )


@pytest.mark.parametrize("scale", [2, 4])
def test_an_episode_depends_on_seed_step_and_slot_alone(photos, tmp_path, scale):  # noqa: F811
    config = sr_config(photos, tmp_path, *KINDS, f"data.tasks.scale={scale}", "data.queries=2")
    expected = episodes(config)
    for rank in range(2):
        ours = episodes(config, rank=rank, world=2)
        assert all(same(a, b[rank]) for [a], b in zip(ours, expected, strict=True))
    later = zip(episodes(config, start=2), expected[2:], strict=True)
    assert all(same(a, b) for x, y in later for a, b in zip(x, y, strict=True))
    [first, *_] = expected[0]
    side = 16 // scale
    assert first.support.given[LOW].shape == (1, 3, side, side)
    assert first.query.given[LOW].shape == (2, 3, side, side)
    assert first.query.target.shape == (2, 3, 16, 16)
    assert not same(expected[0][0], episodes(sr_config(photos, tmp_path, *KINDS, "seed=1"))[0][0])


def test_low_images_are_the_degraded_high_ones_and_parents_are_low(photos, tmp_path):  # noqa: F811
    """By a degradation without blur, low is every second pixel of high, and son of parent."""
    config = sr_config(photos, tmp_path, "data.tasks.sigma=[0.05,0.05]", "data.queries=3")
    [episode, _] = episodes(config)[0]
    for examples in (episode.support, episode.query):
        assert torch.allclose(examples.given[LOW], examples.target[..., ::2, ::2], atol=1e-6)
    photo = next(
        values(np.asarray(Image.open(io.BytesIO(data))))
        for task in EpisodeStore(photos).tasks("train")
        for data in EpisodeStore(photos).read(task)
        if task.name == episode.task
    )
    windows = np.lib.stride_tricks.sliding_window_view(photo, (3, 16, 16))[0]
    for target in episode.query.target.numpy():
        assert np.isclose(windows, target, atol=1e-6).all(axis=(-3, -2, -1)).any()


def test_a_plan_travels_by_value(photos, tmp_path):  # noqa: F811
    config = sr_config(photos, tmp_path)
    source = open_tasks(config.data)
    plan = training_sampler(source, config).plan(3, 1)
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert source.bytes_of(plan) >= 2 * 4 * 3 * (16**2 + 8**2)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.image_size=64"], "128 pixels"),
        (["data.image_size=16", "data.tasks.scale=3"], "multiple"),
        (["data.channels=4"], "1 or 3"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(photos, tmp_path, overrides, words):  # noqa: F811
    with pytest.raises(UserError, match=words):
        episodes(sr_config(photos, tmp_path, *overrides))


@pytest.mark.parametrize(
    "setting", ["sigma=[2,1]", "kernel_size=4", "kernels=[measured]", "measured=x.npy", "jpeg=0"]
)
def test_settings_without_a_meaning_are_refused(photos, tmp_path, setting):  # noqa: F811
    with pytest.raises(UserError, match=r"data\.tasks"):
        sr_config(photos, tmp_path, f"data.tasks.{setting}")
