"""ONNX files in int8: weights and activations, by ranges that the network's own sampling has."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from metatrain.generators.conditions.config import SUPPORT
from metatrain.generators.sampler_sections import FlowSamplerConfig
from metatrain.generators.samplers import Velocity, guided, integrate
from metatrain.model.export.graph import Graph
from metatrain.model.export.onnx import needing_onnx, session_of

# Images sampled to find the ranges, and others to measure the error.
_IMAGES = 16
_OPERATIONS = ["Conv", "Gemm", "MatMul"]

Inputs = dict[str, np.ndarray]


def quantized(data: bytes, calls: Sequence[Inputs]) -> bytes:
    """Return an ONNX file with its convolutions and matrix products in int8 (static QDQ).

    Args:
        data: the file in float32.
        calls: inputs that tell the ranges of activations.
    """
    with needing_onnx():
        from onnxruntime.quantization import CalibrationDataReader, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

    class Calls(CalibrationDataReader):
        """Inputs, one after the other."""

        def __init__(self) -> None:
            self._calls = iter(calls)

        # Its own type leaves out that None ends the calibration.
        def get_next(self) -> Inputs | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            """Return the next, None after the last."""
            return next(self._calls, None)

    with TemporaryDirectory() as folder, _quiet():
        whole, prepared, small = (Path(folder, name) for name in ("whole", "prepared", "small"))
        whole.write_bytes(data)
        quant_pre_process(whole, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared, small, Calls(), per_channel=True, op_types_to_quantize=_OPERATIONS
        )
        return small.read_bytes()


def sampling_calls(graph: Graph, sampler: object, seed: int) -> list[Inputs]:
    """Return the inputs with which sampling a few images calls the network.

    Args:
        graph: the network.
        sampler: the section of its objective.
        seed: of the noise.
    """
    stream = torch.Generator().manual_seed(seed)
    noise = torch.randn(_IMAGES, *graph.inputs["x"].shape[1:], generator=stream)
    if not isinstance(sampler, FlowSamplerConfig):
        return [{"x": noise.numpy()}]
    calls: list[Inputs] = []

    def velocity(sees: bool) -> Velocity:
        def at(x: Tensor, time: float) -> Tensor:
            inputs = (x, x.new_full((len(x),), time), torch.full((len(x),), sees))
            calls.append({n: i.numpy() for n, i in zip(graph.inputs, inputs, strict=True)})
            return graph.module(*inputs)

        return at

    weight = sampler.weight(SUPPORT)
    with torch.no_grad():
        integrate(guided([velocity(False), velocity(True)], [weight]), noise, sampler)
    return calls


def relative_error(data: bytes, small: bytes, calls: Sequence[Inputs]) -> float:
    """Return the root mean square of what `small` computes otherwise, as a part of all."""
    whole, other = session_of(data), session_of(small)
    squares = total = 0.0
    for call in calls:
        (expected,), (result,) = whole.run(None, call), other.run(None, call)
        squares += float(np.square(result - expected).sum())
        total += float(np.square(expected).sum())
    # A network that was never trained computes nothing but 0.
    return (squares / max(total, 1e-30)) ** 0.5


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep onnxruntime's advice to whoever quantises by hand from the terminal."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
