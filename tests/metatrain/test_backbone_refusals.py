"""Backbones that cannot be used: each a sentence, before anything is trained."""

import pytest
import torch
from safetensors.torch import save_file
from test_backbones import without
from tiny_backbones import FLOWS, overrides_of, rewritten, write_pipeline

from metatrain.base.errors import UserError
from metatrain.config import load_config
from metatrain.model.build import build_learner, build_theta


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("backbones")
    return {name: write_pipeline(root / name, name) for name in ("UNet2DModel", FLOWS[0])}


def without_weights(folder):
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    (folder / "diffusion_pytorch_model.bin").write_bytes(b"PK")


FAULTS = {
    "no model": (lambda f: (f / "config.json").unlink(), "is no folder of a diffusers model"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "is not JSON, or is damaged"),
    "no class": (lambda f: (f / "config.json").write_text("{}"), r"names no class \(_class_name"),
    "another class": (
        lambda f: rewritten(f / "config.json", _class_name="VQModel"),
        "is of the class VQModel, and a backbone is one of UNet2DModel, ",
    ),
    "a wrong value": (
        lambda f: rewritten(f / "config.json", block_out_channels=[8]),
        r"config\.json cannot be built: ",
    ),
    "another size": (
        lambda f: rewritten(f / "config.json", in_channels=3),
        "takes 3 channels, and examples have 1 as the codec",
    ),
    "a pickle": (without_weights, r"model\.bin is a pickle, which runs code when it is read"),
    "no weights": (
        lambda f: (f / "diffusion_pytorch_model.safetensors").unlink(),
        r"has no diffusion_pytorch_model\.safetensors; fetch the weights",
    ),
    "other weights": (
        lambda f: save_file({"a": torch.ones(1)}, f / "diffusion_pytorch_model.safetensors"),
        "lacks tensor ",
    ),
    "another scheduler": (
        lambda f: rewritten(
            f.parent / "scheduler" / "scheduler_config.json", _class_name="VQDiffusionScheduler"
        ),
        "is of the class VQDiffusionScheduler, and a scheduler is one of DDIMScheduler",
    ),
    "a huge number": (
        lambda f: rewritten(f / "config.json", norm_num_groups=10**9),
        r"cannot be used: it has a number above 65,536",
    ),
    "a number without end": (
        lambda f: rewritten(f / "config.json", sample_size=10**400),
        r"cannot be used: it has a number above 65,536",
    ),
    "more layers than any network has": (
        lambda f: rewritten(f / "config.json", layers_per_block=60_000),
        "cannot be built: it has far more parameters than",
    ),
    "layers wider than the memory": (
        lambda f: rewritten(f / "config.json", block_out_channels=[65_536, 65_536]),
        "and this machine has memory for",
    ),
    "a schedule without end": (
        lambda f: rewritten(
            f.parent / "scheduler" / "scheduler_config.json", num_train_timesteps=10**12
        ),
        r"scheduler_config\.json cannot be used: it has a number above",
    ),
    "another prediction": (
        lambda f: rewritten(
            f.parent / "scheduler" / "scheduler_config.json", prediction_type="magic"
        ),
        "prediction_type in .* is magic, and it is one of epsilon",
    ),
    "more conditions than a text": (
        lambda f: rewritten(f / "config.json", num_class_embeds=5),
        r"more than a text and a size \(num_class_embeds\)",
    ),
    "a variance, too": (
        lambda f: rewritten(f / "config.json", out_channels=2),
        "takes 1 channels and predicts 2, as a backbone that predicts a variance",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_folders_are_a_sentence(tmp_path, fault):
    folder = write_pipeline(tmp_path, "UNet2DModel")
    spoil, sentence = FAULTS[fault]
    spoil(folder / "model")
    with pytest.raises(UserError, match=sentence):
        build_theta(load_config(None, overrides_of(folder, "UNet2DModel")))


SCHEDULES = {
    "UNet2DModel": [
        {"beta_end": "x"},
        {"beta_end": 2.0},
        {"beta_schedule": "magic"},
        {"num_train_timesteps": 0},
        {"num_train_timesteps": 1},  # fewer than the sampler takes
        {"timestep_spacing": "magic"},
        {"trained_betas": "ab"},
        {"trained_betas": [0.1, 0.2]},
        {"variance_type": "learned_range"},
        {"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "magic"},
    ],
    "SD3Transformer2DModel": [
        {"shift": "three"},
        {"shift": None},
        {"shift": 0},
        {"shift": -2.0},
        {"num_train_timesteps": 0},
        {"use_dynamic_shifting": True, "max_image_seq_len": 256},
        {"use_dynamic_shifting": True, "max_shift": 1e6},
        {"use_karras_sigmas": True, "use_exponential_sigmas": True},
    ],
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_that_cannot_be_used_are_known_before_training(tmp_path, name):
    folder = write_pipeline(tmp_path, name)
    file = folder / "scheduler" / "scheduler_config.json"
    honest = file.read_text()
    for changes in SCHEDULES[name]:
        rewritten(file, **changes)
        sentence = r"the scheduler in .* cannot (be used|take 2 steps): .*; correct it"
        with pytest.raises(UserError, match=sentence):
            build_theta(load_config(None, overrides_of(folder, name)))
        file.write_text(honest)


@pytest.mark.parametrize(
    ("prefix", "further", "sentence"),
    [
        ("inner.", [], r"scope\.name=all moves no parameter of Backbone, which is frozen"),
        ("inner.", ["learner.name=anil"], r"scope\.name=head moves no parameter of Backbone"),
        ("-", ["inner.scope.target_modules=[to_z]"], "names to_z, and Backbone has no linear"),
        (
            "inner.",
            ["learner.name=cavia"],
            "context conditions an embedding, and Backbone has none",
        ),
        ("-", ["data.image_size=9"], "takes examples of a multiple of 2 a side, and they have 9"),
        ("objective.", [], "needs a generator that predicts a velocity, not Backbone"),
        ("generator.", [], r"needs generator\.name=diffusers, not UNet"),
    ],
)
def test_parts_that_do_not_fit_are_a_sentence(folders, prefix, further, sentence):
    overrides = overrides_of(folders["UNet2DModel"], "UNet2DModel", *further)
    if prefix == "generator.":  # nor has another network its layers
        overrides = without("inner.", overrides)
    with pytest.raises(UserError, match=sentence):
        config = load_config(None, without(prefix, overrides))
        build_learner(config, build_theta(config))


def test_min_snr_has_no_meaning_for_flows(folders):
    name = FLOWS[0]
    with pytest.raises(UserError, match=r"objective\.min_snr weights noise levels of epsilon"):
        build_theta(load_config(None, overrides_of(folders[name], name, "objective.min_snr=5")))


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"a": torch.ones(1)}, "holds no embedded text"),
        ({"states": torch.tensor(1.0), "pooled": torch.ones(2, 6)}, "holds no embedded text"),
        (
            {"states": torch.full((2, 3, 5), torch.nan), "pooled": torch.ones(2, 6)},
            "holds no embedded text",
        ),
        ({"states": torch.ones(2, 3, 5), "pooled": torch.ones(2, 6)}, "texts of width 5 and 6"),
    ],
)
def test_texts_of_other_encoders_are_a_sentence(folders, tmp_path, tensors, sentence):
    save_file(tensors, tmp_path / "text.safetensors")
    name = FLOWS[0]
    text = f"generator.text.path={tmp_path}/text.safetensors"
    with pytest.raises(UserError, match=sentence):
        build_theta(load_config(None, overrides_of(folders[name], name, text)))
