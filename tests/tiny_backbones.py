"""Random models of diffusers' own classes, as small as they come, in folders as it writes them."""

import json

import diffusers
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler

from metatrain.config import load_config
from metatrain.generators.frozen import pinned
from metatrain.model.build import build_theta
from metatrain.model.model import Model

_UNET = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "layers_per_block": 1,
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "attention_head_dim": 8,
}
_TRANSFORMER = {
    "num_layers": 1,
    "num_attention_heads": 2,
    "joint_attention_dim": 8,
    "pooled_projection_dim": 6,
}
CONFIGURATIONS = {
    "UNet2DModel": {
        **_UNET,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    },
    "UNet2DConditionModel": {
        **_UNET,
        "cross_attention_dim": 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    },
    "DiTTransformer2DModel": {
        "num_attention_heads": 2,
        "attention_head_dim": 4,
        "in_channels": 1,
        "out_channels": 2,
        "num_layers": 1,
        "sample_size": 8,
        "patch_size": 4,
        "num_embeds_ada_norm": 3,
    },
    "SD3Transformer2DModel": {
        **_TRANSFORMER,
        "sample_size": 8,
        "patch_size": 2,
        "in_channels": 1,
        "out_channels": 1,
        "attention_head_dim": 4,
        "caption_projection_dim": 8,
        "pos_embed_max_size": 8,
    },
    "FluxTransformer2DModel": {
        **_TRANSFORMER,
        "patch_size": 1,
        "in_channels": 4,
        "num_single_layers": 1,
        "attention_head_dim": 8,
        "axes_dims_rope": (2, 2, 4),
    },
}
# SDXL's way to condition on a pooled text and on sizes.
SDXL = {
    **CONFIGURATIONS["UNet2DConditionModel"],
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 6 * 4 + 8,
}
FLOWS = ("SD3Transformer2DModel", "FluxTransformer2DModel")
TARGETS = dict.fromkeys(CONFIGURATIONS, "[to_q,to_k,to_v,to_out.0]")


def model_of(name, seed=0, **changes):
    """A random model whose every weight is away from 0."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(diffusers, name)(**CONFIGURATIONS[name] | changes)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.05 * torch.randn(parameter.shape)
    return model.eval()


def write_pipeline(folder, name, seed=0, **changes):
    """Write a model and its scheduler as a pipeline has them; return the folder."""
    model_of(name, seed, **changes).save_pretrained(folder / "model")
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0) if name in FLOWS else DDPMScheduler()
    scheduler.save_pretrained(folder / "scheduler")
    return folder


def overrides_of(folder, name, *further):
    """A configuration that adapts the model in a folder by LoRA."""
    return [
        "data.image_size=8",
        "generator.name=diffusers",
        f"generator.path={folder}",
        "generator.subfolder=model",
        "objective.name=diffusers",
        f"objective.path={folder}",
        "objective.subfolder=scheduler",
        "objective.sampler.steps=2",
        "inner.scope.name=lora",
        "inner.scope.rank=2",
        f"inner.scope.target_modules={TARGETS[name]}",
        *further,
    ]


def save_over(folder, name, *further):
    """Write a model that is a LoRA, away from 0, over a backbone; return its folder."""
    pipeline = write_pipeline(folder / "pipeline", name)
    config = pinned(load_config(None, overrides_of(pipeline, name, *further)))
    noise = torch.Generator().manual_seed(2)
    parameters = {
        n: p.detach() + 0.2 * torch.randn(p.shape, generator=noise)
        for n, p in build_theta(config).named().items()
    }
    Model(config, parameters, 0).save(folder / "model.safetensors")
    return str(folder)


def rewritten(file, **changes):
    """Change values of a JSON file."""
    values = json.loads(file.read_text())
    file.write_text(json.dumps(values | changes))
