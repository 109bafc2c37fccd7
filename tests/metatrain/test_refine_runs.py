"""A run that refines, its model on files, and the command, from made data to a refined folder."""

import io
import json
import shutil

import numpy as np
import pytest
import torch
from domains import bar, configuration, greys_of, write_bars
from PIL import Image
from small_models import metatrain as command

import metatrain
from metatrain.base.errors import UserError
from metatrain.data.loader import open_tasks
from metatrain.data.photo import Photo, written_name
from metatrain.model import refine_folder as folders
from metatrain.model import tiles
from metatrain.model.build import build_theta
from metatrain.model.model import Model
from metatrain.plan.trace import trace

ANNOTATION = "0 0.5 0.5 0.25 0.5\n"
RUN = (
    *("learner.name=joint", "generator.blocks=1", "meta.steps=60", "meta.lr=0.006"),
    *("objective.weight=0.03", "adapt.steps=30", "adapt.lr=0.006", "meta.momentum=0"),
)


@pytest.fixture(scope="module")
def run(domains, tmp_path_factory):
    """The folder of a short run, and its model."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("refine")
    changes = (*RUN, f"run.dir={folder}", "run.name=run")
    return f"{folder}/run", metatrain.train(configuration(domains, *changes))


@pytest.fixture
def simulated(tmp_path):
    """A folder of simulated images with annotations, and one of real images of a new domain."""
    write_bars(tmp_path / "simulated/a", 6)
    write_bars(tmp_path / "simulated/b", 3)
    for image in (tmp_path / "simulated").rglob("*.png"):
        image.with_suffix(".txt").write_text(ANNOTATION)
    (tmp_path / "simulated/classes.json").write_text('["bar"]')
    (tmp_path / "simulated/LICENSE").write_text("ours")
    write_bars(tmp_path / "real", 5, **greys_of(3))
    return tmp_path


def refined(run, folder, *options):
    source, like, out = folder / "simulated", folder / "real", folder / "out"
    return command("refine", source, "--like", like, "--model", run[0], "--out", out, *options)


def contents(folder):
    paths = [p for p in folder.rglob("*") if p.is_file() and p.name != folders.RECORD]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_a_folder_is_refined_with_its_names_and_annotations(run, simulated, capsys):
    assert refined(run, simulated) == 0
    assert "9 images refined, 11 files copied" in capsys.readouterr().out
    before, after = contents(simulated / "simulated"), contents(simulated / "out")
    assert before.keys() == after.keys()
    assert all(after[name] == data for name, data in before.items() if not name.endswith(".png"))
    images = [
        np.asarray(Image.open(simulated / "out/a" / f"{i}.png")).astype(int) for i in range(6)
    ]
    # Bars are where they were, in the greys of the domain, and no longer in black and white.
    greys = greys_of(3)
    bars = [image[bar(number) == 0].mean() for number, image in enumerate(images)]
    around = [image[bar(number) > 0].mean() for number, image in enumerate(images)]
    assert abs(np.mean(bars) - greys["dark"]) < 35
    assert abs(np.mean(around) - greys["light"]) < 20
    # Python gives the same: the support is of the same images, in the order of their names.
    files = sorted((simulated / "simulated").rglob("*.png"))
    model = metatrain.load(run[0], trust=True)
    photos = model.refine([str(f) for f in files], like=str(simulated / "real"))
    assert all(np.array_equal(p.pixels[..., 0], i) for p, i in zip(photos, images, strict=False))


def test_adapting_to_a_domain_comes_nearer_to_it(run):
    _, model = run
    source = open_tasks(model.config.data)
    sampler = source.sampler("test", seed=1, meta_batch=1)
    support = source.read(sampler.plan(0, 0)).support
    real = support.target.mean()
    untrained = Model(model.config, build_theta(model.config).copy(), 0)
    before, after = (
        (m.generator().sample(support, 4, 0).mean() - real).abs()
        for m in (untrained, model.adapt(support))
    )
    assert after < 0.7 * before


def test_an_interrupted_folder_resumes_to_the_same(run, simulated, monkeypatch, capsys):
    assert refined(run, simulated) == 0
    whole = contents(simulated / "out")
    (simulated / "out").rename(simulated / "whole")
    write, count = folders.write_file, 0

    def interrupted(url, data):
        nonlocal count
        count += 1
        if count == 5:
            raise KeyboardInterrupt
        write(url, data)

    with monkeypatch.context() as patch:
        patch.setattr(folders, "write_file", interrupted)
        assert refined(run, simulated) == 130
    assert "3 of 20 files are there; the same again resumes" in capsys.readouterr().err
    kept = {p: p.stat().st_mtime_ns for p in (simulated / "out").rglob("*") if p.is_file()}
    assert refined(run, simulated) == 0
    assert contents(simulated / "out") == whole
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())


@pytest.mark.parametrize(
    ("options", "word"), [(["--steps", 2], "steps"), (["--seed", 1], "choice of images, seed")]
)
def test_another_refinement_is_not_mixed_in(run, simulated, options, word, capsys):
    assert refined(run, simulated, "--steps", 1) == 0
    before = contents(simulated / "out")
    assert refined(run, simulated, "--steps", 1, *options) == 1
    assert f"with another {word}; choose another folder" in capsys.readouterr().err
    assert contents(simulated / "out") == before


@pytest.mark.parametrize("record", ["[1]", "{", "{}"])
def test_a_record_of_others_is_refused_in_a_sentence(run, simulated, record, capsys):
    (simulated / "out").mkdir()
    (simulated / "out" / folders.RECORD).write_text(record)
    assert refined(run, simulated, "--steps", 0) == 1
    assert "has images of another refinement" in capsys.readouterr().err


def test_files_that_no_refinement_made_are_not_taken_for_refined(run, simulated, capsys):
    shutil.copytree(simulated / "simulated", simulated / "out")
    assert refined(run, simulated, "--steps", 0) == 1
    assert "which no refinement made; choose another folder" in capsys.readouterr().err


def test_labels_that_are_images_are_copied(run, simulated):
    masks = simulated / "simulated/masks"
    masks.mkdir()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) % 4).save(masks / "0.png")
    assert refined(run, simulated, "--steps", 1, "--keep", "masks/*") == 0
    assert (simulated / "out/masks/0.png").read_bytes() == (masks / "0.png").read_bytes()


def test_a_refiner_that_diverged_writes_no_image(run, simulated, capsys):
    assert refined(run, simulated, "--steps", 3, "--lr", 1e20) == 1
    assert "diverged: network.generator.first.weight is not finite" in capsys.readouterr().err
    assert not list((simulated / "out").rglob("*.png"))


def test_what_cannot_be_used_is_said_in_a_sentence(run, simulated, capsys):
    (simulated / "simulated/a/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    Image.fromarray(bar(9)).save(simulated / "simulated/a/old.bmp")
    (simulated / "simulated/.hidden").write_text("")
    assert refined(run, simulated, "--steps", 0) == 0
    captured = capsys.readouterr()
    assert "10 images refined, 11 files copied, 1 passed over" in captured.out
    assert "passed over" in captured.err and "broken.png" in captured.err
    names = contents(simulated / "out").keys()
    assert "a/old.png" in names and "a/broken.png" not in names and ".hidden" not in names

    Image.fromarray(bar(9)).save(simulated / "simulated/a/old.png")
    assert refined(run, simulated, "--steps", 0) == 1
    assert "a/old.bmp, a/old.png would be one file" in capsys.readouterr().err
    for source, message in (
        (simulated / "nowhere", "there is no folder"),
        (simulated / "out", "would be refined too"),
        (simulated / "whole", "holds no images"),
    ):
        (simulated / "whole").mkdir(exist_ok=True)
        (simulated / "whole/a.txt").write_text("")
        out = simulated / "out/in" if "refined too" in message else simulated / "other"
        options = ("--like", simulated / "real", "--model", run[0], "--out", out)
        assert command("refine", source, *options) == 1
        assert message in capsys.readouterr().err


def test_only_models_that_refine_do(run, simulated):
    _, model = run
    flow = metatrain.load_config(None, ["data.image_size=8", "generator.width=8"])
    with pytest.raises(UserError, match=r"not trained to refine.*objective\.name=refine"):
        Model(flow, build_theta(flow).copy(), 0).refine([bar(0)])
    with pytest.raises(UserError, match="needs the condition 'simulated'"):
        model.adapt(str(simulated / "real"))
    with pytest.raises(UserError, match="no simulated images"):
        model.refine([], like=str(simulated / "real"))


@pytest.mark.parametrize("channels", [1, 3])
def test_size_format_alpha_and_bits_are_kept(domains, channels, monkeypatch):
    config = configuration(domains, f"data.channels={channels}")
    theta = build_theta(config).copy()
    stream = torch.Generator().manual_seed(0)
    theta = {n: p + 0.05 * torch.randn(p.shape, generator=stream) for n, p in theta.items()}
    model, noise = Model(config, theta, 1), np.random.default_rng(0)
    rgba = noise.integers(60, 190, (21, 37, 4), dtype=np.uint8)
    wide = noise.integers(16_000, 48_000, (21, 37, 1), dtype=np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(rgba[..., :3]).save(buffer, "TIFF")
    photo = model.refine([buffer.getvalue()])[0]
    assert (photo.format, photo.pixels.shape) == ("TIFF", (21, 37, 3))
    changed, deep = model.refine([rgba, wide])
    assert np.array_equal(changed.pixels[..., 3], rgba[..., 3])
    assert not np.array_equal(changed.pixels[..., :3], rgba[..., :3])
    assert deep.pixels.dtype == np.uint16 and len(np.unique(deep.pixels % 257)) > 100
    monkeypatch.setattr(tiles, "_TILE", 8)
    again = model.refine([rgba])[0].pixels
    assert np.abs(again.astype(int) - changed.pixels).max() <= 1


def test_names_are_kept_where_their_format_is_written():
    names = {"a.jpeg": "a.jpeg", "b/c.PNG": "b/c.PNG", "d.tif": "d.tif", "e.bmp": "e.png"}
    assert {name: written_name(name) for name in names} == names
    assert Photo(np.zeros((1, 1, 1), np.uint8)).ending == ".png"


def test_a_model_that_adapted_keeps_its_simulated_images_in_its_file(run, simulated, tmp_path):
    _, model = run
    source = open_tasks(model.config.data)
    support = source.read(source.sampler("test", seed=1, meta_batch=1).plan(0, 0)).support
    adapted = model.adapt(support, steps=2)
    adapted.save(tmp_path / "adapted.safetensors")
    again = metatrain.load(tmp_path / "adapted.safetensors", trust=True)
    assert torch.equal(again.sample(3), adapted.sample(3))
    expected = adapted.refine([bar(1)])[0].pixels
    assert np.array_equal(again.refine([bar(1)])[0].pixels, expected)
    assert np.array_equal(adapted.to_sample_only().refine([bar(1)])[0].pixels, expected)


def test_refining_is_planned(domains):
    cost = trace(configuration(domains), episodes=1)
    assert cost.flops > 0


def test_the_record_names_no_place(run, simulated):
    assert refined(run, simulated, "--steps", 0) == 0
    record = json.loads((simulated / "out" / folders.RECORD).read_text())
    assert record.keys() == {"model", "support", "steps", "lr", "seed"}
