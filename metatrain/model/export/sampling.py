"""A folder of ONNX files, and a description of how to sample with them."""

import json
from collections.abc import Mapping
from typing import Any

from metatrain.generators import Generator
from metatrain.generators.conditions.config import SUPPORT
from metatrain.generators.samplers import FlowSamplerConfig
from metatrain.model.export.graph import decoder_graph, network_graph, sampling_generator
from metatrain.model.export.onnx import onnx_bytes
from metatrain.model.model import Model
from metatrain.storage.files import write_file

FORMAT = "metatrain-sampling-1"
NETWORK, DECODER, DESCRIPTION = "model.onnx", "decoder.onnx", "model.json"


def export_onnx(model: Model, folder: str) -> str:
    """Write an adapted model's network as ONNX, and how to sample with it.

    Returns:
        The URL of the network.

    Raises:
        UserError: when the model cannot be exported; nothing is written then.
    """
    write_files(folder, sampling_files(model))
    return f"{folder}/{NETWORK}"


def sampling_files(model: Model) -> dict[str, bytes]:
    """Return the network, the decoder where there is one, and last their description, by name."""
    generator = sampling_generator(model)
    network, decoder = network_graph(model, generator), decoder_graph(generator)
    files = {NETWORK: onnx_bytes(network)}
    if decoder:
        files[DECODER] = onnx_bytes(decoder)
    shape = network.inputs["x"].shape[1:]
    description = _description(model, generator, shape, DECODER if decoder else None)
    return files | {DESCRIPTION: json.dumps(description, indent=2).encode() + b"\n"}


def write_files(folder: str, files: Mapping[str, bytes]) -> None:
    """Write files in their order: who finds the last finds all."""
    for name, data in files.items():
        write_file(f"{folder}/{name}", data)


def _description(
    model: Model, generator: Generator, noise: tuple[int, ...], decoder: str | None
) -> dict[str, Any]:
    data = model.config.data
    return {
        "format": FORMAT,
        "name": model.config.run.name,
        "network": NETWORK,
        "decoder": decoder,
        "noise": list(noise),
        "sampler": _sampler(generator.objective.config.sampler),
        "image": {"channels": data.channels, "size": data.image_size, "range": [-1, 1]},
    }


def _sampler(config: Any) -> dict[str, Any]:
    if isinstance(config, FlowSamplerConfig):
        guidance = config.weight(SUPPORT)
        return {"method": config.method, "steps": config.steps, "guidance": guidance}
    return {"method": "one_pass", "truncation": config.truncation}
