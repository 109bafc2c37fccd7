"""The benchmark of super-resolution, on made images and untrained models."""

import json

import numpy as np
import pytest
from photographs import photograph, photos, sr_config  # noqa: F401
from PIL import Image

from benchmarks.super_resolution import degradations
from benchmarks.super_resolution.__main__ import main
from benchmarks.super_resolution.sets import read_set
from metatrain.base.errors import UserError
from metatrain.data.degradations.degradation import Degradation
from metatrain.data.degradations.kernels import gaussian
from metatrain.data.degradations.named import named_degradation
from metatrain.model.build import build_theta
from metatrain.model.model import Model


@pytest.fixture
def truth(tmp_path):
    (tmp_path / "GT").mkdir()
    for name, width in (("a", 60), ("b", 73)):
        Image.fromarray(photograph(0, 64, width)).save(tmp_path / "GT" / f"{name}_GT.png")
    return tmp_path / "GT"


def test_every_system_is_scored_and_shown(truth, tmp_path, capsys):
    config = sr_config("nowhere", tmp_path)
    Model(config, build_theta(config).copy(), 1).save(tmp_path / "run" / "model.safetensors")
    options = ["--model", f"ours={tmp_path / 'run'}", "--steps", "0", "1", "--zssr", "2"]
    options += ["--width", "8", "--kernel", "gaussian:1.2", "--estimate"]
    main([str(truth), *options, "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert list(scores) == ["bicubic", "ZSSR, 2 steps", "ours, 0 steps", "ours, 1 steps"]
    assert all(f"| {name} |" in printed for name in scores)
    # An untrained model without steps is the bicubic enlargement, rounded.
    for plain, bicubic in zip(scores["ours, 0 steps"], scores["bicubic"], strict=True):
        assert abs(plain["psnr"] - bicubic["psnr"]) < 0.03
    assert scores["ours, 1 steps"] != scores["ours, 0 steps"]
    assert Image.open(tmp_path / "out" / "picture.png").size == (5 * 148 + 4, 22 + 4 * 148)
    page = (tmp_path / "out" / "page.html").read_text()
    assert page.count("<img") == 2 * (1 + 4 + 4)
    assert "Sigma 1.20, estimated" in printed


def test_inputs_beside_the_truth_are_those_that_are_made_here(truth, tmp_path):
    degradation = named_degradation("gaussian:1.4", 2, "direct")
    made = read_set(truth, None, degradation)
    (tmp_path / "inputs").mkdir()
    for pair in made:
        Image.fromarray(pair.low).save(tmp_path / "inputs" / f"{pair.name}.png")
    with pytest.raises(UserError, match="divided by 2"):
        read_set(truth, tmp_path / "inputs", degradation)  # b has an odd width
    Image.fromarray(made[1].high).save(truth / "b_GT.png")
    read = read_set(truth, tmp_path / "inputs", degradation)
    assert all(np.array_equal(a.low, b.low) for a, b in zip(made, read, strict=True))
    (tmp_path / "inputs" / "a.png").unlink()
    with pytest.raises(UserError, match="holds no a"):
        read_set(truth, tmp_path / "inputs", degradation)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(UserError, match="no images"):
        read_set(tmp_path, None, Degradation(2, gaussian(5, (1, 1))))


def test_models_are_compared_image_by_image_under_every_degradation(
    photos,  # noqa: F811
    tmp_path,
    capsys,
):
    models = []
    for name, changes in (("joint", ["seed=1"]), ("maml++", ["learner.name=maml++", "seed=1"])):
        config = sr_config(photos, tmp_path, "data.channels=1", *changes)
        url = tmp_path / name / "model.safetensors"
        Model(config, build_theta(config).copy(), 1).save(url)
        models += ["--model", f"{name}={url.parent}"]
    options = ["--images", "2", "--tuning", "1", "--side", "48", "--steps", "0", "1"]
    degradations.main([photos, *models, *options, "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "joint=" in printed and ": adapts at" in printed and "maml++=" not in printed
    results = json.loads((tmp_path / "out" / "degradations.json").read_text())
    assert set(results["joint"][0]) == set(degradations.DEGRADATIONS)
    assert all(len(of["0"]) == 2 for of in results["joint"][0].values())
    # Untrained, both are the bicubic enlargement until they adapt.
    rows = [line for line in printed.splitlines() if " | 0 | " in line]
    assert len(rows) == len(degradations.DEGRADATIONS)
    assert all("+0.00 [+0.00, +0.00]" in row for row in rows)
    with pytest.raises(UserError, match="smaller than --side 200"):
        degradations.main([photos, *models, *options, "--side", "200"])
