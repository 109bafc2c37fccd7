"""A folder of ONNX files, and a description of how to sample with them."""

import json
from collections.abc import Mapping
from typing import Any

from metatrain.base.errors import UserError
from metatrain.base.progress import say
from metatrain.generators import Generator
from metatrain.generators.conditions.config import SUPPORT
from metatrain.generators.sampler_sections import FlowSamplerConfig
from metatrain.model.export.graph import Graph, decoder_graph, network_graph, sampling_generator
from metatrain.model.export.int8 import quantized, relative_error, sampling_calls
from metatrain.model.export.onnx import onnx_bytes
from metatrain.model.model import Model
from metatrain.storage.files import write_file

FORMAT = "metatrain-sampling-1"
# The largest error of a network in 8 bits that is written, as a part of what it computes.
_LARGEST_ERROR = 0.2
NETWORK, DECODER, DESCRIPTION = "model.onnx", "decoder.onnx", "model.json"


def export_onnx(model: Model, folder: str, *, int8: bool = False) -> str:
    """Write an adapted model's network as ONNX, and how to sample with it.

    Args:
        model: the model.
        folder: where to write.
        int8: whether the network is to have weights and activations of 8 bits.

    Returns:
        The URL of the network.

    Raises:
        UserError: when the model cannot be exported, or differs much in 8 bits; nothing is
            written then.
    """
    write_files(folder, sampling_files(model, int8=int8))
    return f"{folder}/{NETWORK}"


def sampling_files(model: Model, *, int8: bool) -> dict[str, bytes]:
    """Return the network, the decoder where there is one, and last their description, by name."""
    generator = sampling_generator(model)
    network, decoder = network_graph(model, generator), decoder_graph(generator)
    data = onnx_bytes(network)
    files = {NETWORK: _in_int8(data, network, generator) if int8 else data}
    if decoder:
        files[DECODER] = onnx_bytes(decoder)
    shape = network.inputs["x"].shape[1:]
    description = _description(model, generator, shape, DECODER if decoder else None)
    return files | {DESCRIPTION: json.dumps(description, indent=2).encode() + b"\n"}


def _in_int8(data: bytes, network: Graph, generator: Generator) -> bytes:
    """Return a network in int8, and tell what that brings and costs.

    Raises:
        UserError: when it computes something else.
    """
    sampler = generator.objective.config.sampler
    small = quantized(data, sampling_calls(network, sampler, seed=0))
    error = relative_error(data, small, sampling_calls(network, sampler, seed=1))
    if not error <= _LARGEST_ERROR:
        raise UserError(
            f"in 8 bits, what the network computes would differ by {error:.0%}, and no more than "
            f"{_LARGEST_ERROR:.0%} is exported; export it in float32."
        )
    say(
        f"int8: {len(small) / 1e6:.2f} MB in place of {len(data) / 1e6:.2f}; what the network "
        f"computes differs by {error:.1%} (root mean square, on the way of its own samples)."
    )
    return small


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
