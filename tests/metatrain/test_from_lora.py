"""LoRAs of others as the start of a run: read as their tools read them, averaged, and mixed."""

import json
import re

import diffusers
import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from small_models import metatrain
from test_export import EVERY_LAYER, LORA, exported, outputs, pipeline_of
from tiny_backbones import CONFIGURATIONS, SDXL, model_of, overrides_of, write_pipeline

import metatrain as api
from metatrain.combine.from_lora import mean_of_loras, truncated
from metatrain.combine.lora_files import LoRATerm
from metatrain.config import load_config, with_values
from metatrain.config.yaml_values import dumped
from metatrain.learning.inner.low_rank import low_rank_terms

UNET = "UNet2DConditionModel"


def config_of(folder, name, *further):
    """Write a configuration, and return its path."""
    config = load_config(None, overrides_of(folder, name, *further))
    path = folder / "run.yaml"
    path.write_text(dumped(config.model_dump(mode="json")))
    return path


def from_lora(config, *files, options=()):
    """Run the command, and return the model that it writes."""
    out = config.parent / "start.safetensors"
    assert metatrain("from-lora", *files, "--config", config, "--out", out, *options) == 0
    return api.load(out)


def weights_of(model):
    """Return the terms of a model as weights, by layer."""
    terms = low_rank_terms(model.generator().network.model)
    return {layer: term.weight().detach() for layer, term in terms.items()}


def write_kohya(path, backbone, rank, alpha, seed, layers=("to_q", "to_v")):
    """Write a LoRA as kohya does; return its terms as weights, by layer."""
    noise, tensors, weights = torch.Generator().manual_seed(seed), {}, {}
    for name, layer in backbone.named_modules():
        if not name.endswith(layers):
            continue
        rows, columns = layer.weight.shape
        up, down = (torch.randn(*s, generator=noise) for s in ((rows, rank), (rank, columns)))
        key = f"lora_unet_{name.replace('.', '_')}"
        tensors |= {f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down}
        tensors[f"{key}.alpha"] = torch.tensor(float(alpha))
        weights[name] = alpha / rank * up @ down
    save_file(tensors, path)
    return weights


CASES = [
    (UNET, "kohya", ()),
    (UNET, "kohya", ("inner.scope.rslora=true", "inner.scope.rank=3")),
    (UNET, "diffusers", ("inner.scope.rank=20", *EVERY_LAYER)),
    ("FluxTransformer2DModel", "diffusers", EVERY_LAYER),
    ("FluxTransformer2DModel", "kohya", EVERY_LAYER),
    ("FluxTransformer2DModel", "kohya", ()),
    ("SD3Transformer2DModel", "kohya", EVERY_LAYER),
    *((name, "peft", EVERY_LAYER) for name in CONFIGURATIONS),
]


@pytest.mark.parametrize(("name", "format", "overrides"), CASES)
def test_an_export_read_again_is_the_same_model(tmp_path, name, format, overrides):
    model, out = exported(tmp_path, name, "--format", format, overrides=overrides)
    config = config_of(tmp_path / "backbone", name, *overrides)
    again = from_lora(config, next(out.glob("*.safetensors")))
    assert again.parameters.keys() == model.parameters.keys()
    for key, value in model.parameters.items():
        torch.testing.assert_close(again.parameters[key], value, atol=1e-6, rtol=1e-6)


def test_kohyas_alpha_is_the_strength_that_diffusers_reads(tmp_path):
    config = config_of(write_pipeline(tmp_path, UNET), UNET, "inner.scope.rank=6")
    write_kohya(tmp_path / LORA, model_of(UNET), rank=5, alpha=2, seed=3)
    pipeline = pipeline_of(UNET)
    pipeline.load_lora_weights(str(tmp_path), weight_name=LORA)
    network = from_lora(config, tmp_path / LORA).generator().network
    torch.testing.assert_close(*outputs(network, pipeline.unet), atol=1e-5, rtol=0)


def test_an_alpha_may_be_a_whole_number(tmp_path):
    """As diffusers' own conversion to kohya's names writes it."""
    config = config_of(write_pipeline(tmp_path, UNET), UNET, "inner.scope.rank=6")
    write_kohya(tmp_path / LORA, model_of(UNET), rank=5, alpha=2, seed=3)
    before = weights_of(from_lora(config, tmp_path / LORA))
    tensors = load_file(tmp_path / LORA)
    whole = {n: t.to(torch.int64) if n.endswith("alpha") else t for n, t in tensors.items()}
    save_file(whole, tmp_path / LORA)
    after = weights_of(from_lora(config, tmp_path / LORA))
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_mixture_has_no_strength(tmp_path, capsys):
    words = ["from-lora", "a", "--config", "b", "--out", tmp_path / "c.safetensors"]
    assert metatrain(*words, "--mixture", "--strength", 0.5) == 1
    assert "--mixture makes none" in capsys.readouterr().err


def test_stable_diffusions_own_names_are_those_that_diffusers_reads(tmp_path):
    """SDXL's LoRAs have them, as kohya writes them."""
    layers = {**SDXL, "block_out_channels": (8, 16, 16), "layers_per_block": 2}
    layers["down_block_types"] = ("DownBlock2D", *["CrossAttnDownBlock2D"] * 2)
    layers["up_block_types"] = (*["CrossAttnUpBlock2D"] * 2, "UpBlock2D")
    targets = (
        "inner.scope.target_modules=[to_q,to_k,proj_in,conv1,time_emb_proj,conv_shortcut,conv]"
    )
    config = config_of(write_pipeline(tmp_path, UNET, **layers), UNET, targets)
    noise, tensors = torch.Generator().manual_seed(4), {}
    sizes = {
        "input_blocks_4_1_transformer_blocks_0_attn1_to_q": (16, 16),
        "input_blocks_8_1_transformer_blocks_0_attn2_to_k": (16, 8),
        "input_blocks_5_1_proj_in": (16, 16, 1, 1),
        "input_blocks_4_0_in_layers_2": (16, 8, 3, 3),
        "input_blocks_4_0_skip_connection": (16, 8, 1, 1),
        "input_blocks_3_0_op": (8, 8, 3, 3),
        "middle_block_1_transformer_blocks_0_attn1_to_q": (16, 16),
        "middle_block_2_emb_layers_1": (16, 32),
        "output_blocks_3_1_transformer_blocks_0_attn1_to_q": (16, 16),
        "output_blocks_7_0_emb_layers_1": (8, 32),
        "output_blocks_5_2_conv": (16, 16, 3, 3),
    }
    for name, (rows, *kernel) in sizes.items():
        ones = [1] * (len(kernel) - 1)
        down, up = torch.randn(2, *kernel, generator=noise), torch.randn(rows, 2, *ones)
        tensors[f"lora_unet_{name}.lora_down.weight"] = down
        tensors[f"lora_unet_{name}.lora_up.weight"] = up
        tensors[f"lora_unet_{name}.alpha"] = torch.tensor(1.0)
    save_file(tensors, tmp_path / LORA)
    parts = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
    unet = model_of(UNET, **layers)
    pipeline = diffusers.StableDiffusionXLPipeline(unet=unet, **dict.fromkeys(parts))
    pipeline.load_lora_weights(str(tmp_path), weight_name=LORA)
    network = from_lora(config, tmp_path / LORA).generator().network
    assert sum(bool(t.up.any()) for t in low_rank_terms(network.model).values()) == len(sizes)
    torch.testing.assert_close(*outputs(network, unet), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rslora", [False, True])
def test_pefts_strengths_are_those_that_it_reads(tmp_path, rslora):
    name = "UNet2DModel"
    backbone = model_of(name)
    config = peft.LoraConfig(
        r=3,
        lora_alpha=5,
        use_rslora=rslora,
        alpha_pattern={"to_k": 7},
        rank_pattern={"to_v": 2},
        target_modules=["to_q", "to_k", "to_v", "conv1"],
        init_lora_weights=False,
    )
    adapted = peft.get_peft_model(backbone, config)
    adapted.save_pretrained(tmp_path / "lora")
    targets = "inner.scope.target_modules=[to_q,to_k,to_v,conv1,conv2]"
    pipeline = write_pipeline(tmp_path, name)
    start = from_lora(
        config_of(pipeline, name, targets, "inner.scope.rank=4"),
        tmp_path / "lora" / "adapter_model.safetensors",
    )
    theirs = adapted.base_model.model
    torch.testing.assert_close(*outputs(start.generator().network, theirs), atol=1e-5, rtol=0)


def test_the_strength_in_diffusers_metadata_is_used(tmp_path):
    config = config_of(write_pipeline(tmp_path, UNET), UNET, "inner.scope.rank=2")
    backbone = model_of(UNET)
    adapter = peft.LoraConfig(r=2, lora_alpha=6, target_modules=["to_q"], init_lora_weights=False)
    backbone.add_adapter(adapter)
    layers = peft.get_peft_model_state_dict(backbone)
    diffusers.StableDiffusionPipeline.save_lora_weights(
        tmp_path, unet_lora_layers=layers, unet_lora_adapter_metadata=adapter.to_dict()
    )
    network = from_lora(config, tmp_path / LORA).generator().network
    torch.testing.assert_close(*outputs(network, backbone), atol=1e-5, rtol=0)


@given(ranks=st.lists(st.integers(1, 4), min_size=1, max_size=4), rank=st.integers(1, 12))
@settings(max_examples=30)
def test_truncation_is_the_best_of_its_rank(ranks, rank):
    noise = torch.Generator().manual_seed(sum(ranks))
    down, up = (torch.randn(*s, generator=noise) for s in ((sum(ranks), 7), (6, sum(ranks))))
    term = truncated(LoRATerm(down, up), rank)
    u, sizes, v = torch.linalg.svd((up @ down).double(), full_matrices=False)
    best = (u[:, :rank] * sizes[:rank]) @ v[:rank]
    assert len(term.down) <= max(rank, 1)
    torch.testing.assert_close((term.up @ term.down).double(), best, atol=1e-4, rtol=1e-4)


def test_a_mean_of_ranks_is_the_mean_of_products(tmp_path):
    config = config_of(write_pipeline(tmp_path, UNET), UNET, "inner.scope.rank=7")
    files = [tmp_path / f"{i}.safetensors" for i in range(2)]
    first = write_kohya(files[0], model_of(UNET), rank=3, alpha=2, seed=0)
    other = write_kohya(files[1], model_of(UNET), rank=4, alpha=4, seed=1, layers=("to_q",))
    for layer, weight in weights_of(from_lora(config, *files)).items():
        parts = [w[layer] for w in (first, other) if layer in w]
        expected = sum(parts) / 2 if parts else torch.zeros_like(weight)
        torch.testing.assert_close(weight, expected, atol=1e-5, rtol=1e-5)
    half = weights_of(from_lora(config, *files, options=("--strength", 0.5)))
    whole = weights_of(from_lora(config, *files))
    assert all(torch.allclose(half[layer], 0.5 * w, atol=1e-6) for layer, w in whole.items())


def test_what_a_rank_leaves_out_is_said(tmp_path, capsys):
    config = config_of(write_pipeline(tmp_path, UNET), UNET, "inner.scope.rank=2")
    files = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for seed, file in enumerate(files):
        write_kohya(file, model_of(UNET), rank=2, alpha=2, seed=seed)
    from_lora(config, *files)
    said = capsys.readouterr().out
    mean = mean_of_loras(load_config(str(config), []), [str(file) for file in files])
    assert 0.2 < mean.kept < 0.95
    assert f"rank 2 keeps {mean.kept:.2%} of the squared norm" in said


def test_a_mixture_begins_as_the_mean_and_adapts_its_weights_alone(tmp_path):
    further = ("inner.scope.rank=8", "adapt.steps=3", "inner.scope.target_modules=[to_q,to_v]")
    config = config_of(write_pipeline(tmp_path, UNET), UNET, *further)
    files = [tmp_path / f"{i}.safetensors" for i in range(2)]
    weights = [
        write_kohya(file, model_of(UNET), rank=3 + i, alpha=2, seed=i)
        for i, file in enumerate(files)
    ]
    mixture = from_lora(config, *files, options=("--mixture",))
    mean = weights_of(from_lora(config, *files))
    for layer, weight in weights_of(mixture).items():
        torch.testing.assert_close(weight, mean[layer], atol=1e-5, rtol=1e-5)
    adapted = mixture.adapt(torch.rand(3, 1, 8, 8) * 2 - 1)
    alpha = adapted.parameters["network.mixture_weights.alpha"]
    assert (alpha - 0.5).abs().max() > 1e-3
    moved = {n for n, p in adapted.parameters.items() if not torch.equal(p, mixture.parameters[n])}
    assert moved == {"network.mixture_weights.alpha"}
    for layer, weight in weights_of(adapted).items():
        expected = alpha[0] * weights[0][layer] + alpha[1] * weights[1][layer]
        torch.testing.assert_close(weight, expected, atol=1e-5, rtol=1e-5)
    adapted.save(tmp_path / "adapted.safetensors")
    command = ["export", tmp_path / "adapted.safetensors", "--out", tmp_path / "out"]
    assert metatrain(*command) == 0
    again = weights_of(from_lora(config, tmp_path / "out" / LORA))
    for layer, weight in weights_of(adapted).items():
        torch.testing.assert_close(again[layer], weight, atol=1e-5, rtol=1e-5)


@pytest.mark.long
def test_a_run_starts_from_loras(tmp_path, packed):
    further = ("inner.scope.rank=4", "meta.steps=2", "meta.warmup=0", "inner.steps=2")
    data = (f"data.path={packed}", "data.image_size=16", "data.shots=2", "data.queries=2")
    config = config_of(write_pipeline(tmp_path, UNET), UNET, *further, *data, "learner.name=maml")
    write_kohya(tmp_path / "a.safetensors", model_of(UNET), rank=4, alpha=4, seed=0)
    start = from_lora(config, tmp_path / "a.safetensors", options=("--mixture",))
    start.save(tmp_path / "start.safetensors")
    place = {"run.dir": str(tmp_path), "run.init": f"{tmp_path}/start.safetensors"}
    trained = api.train(with_values(start.config, place), device="cpu")
    moved = [(p - start.parameters[n]).abs().max() for n, p in trained.parameters.items()]
    assert 0 < max(moved) < 0.1


def spoiled(change):
    """A LoRA with a change, as a function that writes it."""

    def write(folder):
        write_kohya(folder / "lora.safetensors", model_of(UNET), rank=2, alpha=2, seed=0)
        tensors = load_file(folder / "lora.safetensors")
        first = min(name for name in tensors if name.endswith(".alpha")).removesuffix(".alpha")
        change(tensors, first)
        save_file(tensors, folder / "lora.safetensors")
        return folder / "lora.safetensors"

    return write


def written(name, content):
    """A file of other content, as a function that writes it."""

    def write(folder):
        (folder / name).write_bytes(content)
        return folder / name

    return write


def of_peft(**values):
    """A LoRA of PEFT whose configuration has these values, as a function that writes it."""

    def write(folder):
        name = "base_model.model.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_"
        factors = {"A": torch.ones(2, 16), "B": torch.ones(16, 2)}
        tensors = {f"{name}{key}.weight": value for key, value in factors.items()}
        save_file(tensors, folder / "lora.safetensors")
        if values:
            (folder / "adapter_config.json").write_text(json.dumps(values))
        return folder / "lora.safetensors"

    return write


def test_pefts_usual_alpha_is_8(tmp_path):
    config = config_of(write_pipeline(tmp_path, UNET), UNET)
    weights = weights_of(from_lora(config, of_peft(r=2)(tmp_path)))
    layer = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    torch.testing.assert_close(weights[layer], torch.full((16, 16), 2 * 8 / 2))


FAULTS = {
    "no file": (lambda folder: folder / "none.safetensors", "there is no file"),
    "a pickle": (written("lora.pt", b"PK"), r"lora\.pt is a pickle, which runs code when it is"),
    "no safetensors": (written("lora.safetensors", b"PK" * 40), "is no safetensors file, or dam"),
    "another width": (
        spoiled(lambda t, n: t.update({f"{n}.lora_down.weight": torch.ones(2, 5)})),
        r"is a LoRA for another backbone: it has \[2, 5\] and \[8|16, 2\] beside ",
    ),
    "another layer": (
        spoiled(lambda t, n: t.update({"lora_unet_x_to_q.lora_down.weight": torch.ones(2, 5)})),
        "is a LoRA for another backbone: it has a term for lora_unet_x_to_q, and this UNet2DCond",
    ),
    "another kind": (
        spoiled(lambda t, n: t.update({f"{n}.dora_scale": torch.ones(2)})),
        r"dora_scale, which plain LoRA has not",
    ),
    "half a term": (spoiled(lambda t, n: t.pop(f"{n}.lora_up.weight")), "lacks the factor up besi"),
    "other ranks": (
        spoiled(lambda t, n: t.update({f"{n}.lora_up.weight": torch.ones(16, 3)})),
        "is a LoRA for another backbone",
    ),
    "no number": (
        spoiled(lambda t, n: t.update({f"{n}.lora_up.weight": torch.full((16, 2), torch.nan)})),
        "is not finite",
    ),
    "alpha of several numbers": (
        spoiled(lambda t, n: t.update({f"{n}.alpha": torch.ones(3)})),
        "cannot be used: ",
    ),
    "a huge alpha": (
        spoiled(lambda t, n: t.update({f"{n}.alpha": torch.tensor(1e30)})),
        "cannot be used: its alpha beside ",
    ),
    "texts alone": (
        spoiled(lambda t, n: (t.clear(), t.update({"lora_te_x.alpha": torch.ones(1)}))),
        "has no term for a backbone",
    ),
    "no strength": (of_peft(), r"whose strength is in .*adapter_config\.json, and that is missing"),
    "DoRA": (of_peft(use_dora=True), "is of another adapter than plain LoRA"),
    "a regular expression": (
        of_peft(r=2, alpha_pattern={"(a+)+$": 3}),
        "cannot be used: its alpha_pattern names layers by more than their names",
    ),
    "no alpha": (of_peft(r=2, lora_alpha="x"), "the strength in .* cannot be used"),
    "an endless alpha": (of_peft(r=2, lora_alpha=10**400), "the strength in .* cannot be used"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_files_are_a_sentence(tmp_path, capsys, fault):
    write, sentence = FAULTS[fault]
    config = config_of(write_pipeline(tmp_path, UNET), UNET)
    words = ["from-lora", write(tmp_path), "--config", config, "--out", tmp_path / "o.safetensors"]
    assert metatrain(*words) == 1
    error = capsys.readouterr().err
    assert re.search(sentence, error), error
    assert not (tmp_path / "o.safetensors").exists()


@pytest.mark.parametrize(
    ("further", "sentence"),
    [
        (["generator.init=random"], "the configuration has no pretrained backbone"),
        (["inner.scope.target_modules=[to_q]"], r"inner\.scope\.target_modules leaves out"),
    ],
)
def test_configurations_that_do_not_fit_are_a_sentence(tmp_path, capsys, further, sentence):
    config = config_of(write_pipeline(tmp_path, UNET), UNET, *further)
    write_kohya(tmp_path / "a.safetensors", model_of(UNET), rank=2, alpha=2, seed=0)
    words = ["--config", config, "--out", tmp_path / "o.safetensors"]
    assert metatrain("from-lora", tmp_path / "a.safetensors", *words) == 1
    assert re.search(sentence, capsys.readouterr().err)
