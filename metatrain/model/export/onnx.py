"""Graphs as ONNX, compared with torch before anyone sees them."""

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from metatrain.base.errors import UserError
from metatrain.base.text import reason_of
from metatrain.model.export.graph import Graph

# Largest difference to torch, in units of the largest value.
TOLERANCE = 1e-4
# An ONNX file is one protobuf message, which holds less than 2 GiB.
_MOST_BYTES = 2_000_000_000
_BATCHES = (1, 3)


def onnx_bytes(graph: Graph) -> bytes:
    """Return a graph as an ONNX file with a dynamic batch size.

    Raises:
        UserError: when ONNX lacks an operation of the graph or room for it, onnxruntime computes
            anything else than torch, or a package is missing.
    """
    size = sum(t.nbytes for t in graph.module.state_dict().values())
    if size > _MOST_BYTES:
        raise UserError(
            f"the network has {size / 1e9:.1f} GB of parameters, and an ONNX file holds 2; export "
            f"a smaller one."
        )
    with needing_onnx(), _quiet():
        for package in ("onnx", "onnxruntime", "onnxscript"):
            importlib.import_module(package)
        data = _bare(_exported(graph)).SerializeToString()
    _compare(graph, data)
    return data


@contextmanager
def needing_onnx() -> Iterator[None]:
    """Turn the lack of a package that ONNX needs into a sentence."""
    try:
        yield
    except ImportError as error:
        raise UserError(
            "ONNX needs packages that are not installed; pip install 'metatrain[onnx]'."
        ) from error


def session_of(data: bytes) -> Any:
    """Return an onnxruntime session of an ONNX file, on one thread a core."""
    with needing_onnx():
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _exported(graph: Graph) -> Any:
    batch = torch.export.Dim("batch", min=1)
    try:
        program = torch.onnx.export(
            graph.module,
            tuple(graph.inputs.values()),
            dynamo=True,
            verbose=False,
            input_names=[*graph.inputs],
            output_names=[graph.output],
            dynamic_shapes=[{0: batch} for _ in graph.inputs],
        )
    except torch.onnx.OnnxExporterError as error:
        raise UserError(
            f"the network has an operation that ONNX has no form of ({reason_of(error)}); it "
            f"cannot be exported."
        ) from error
    assert program is not None
    return program.model_proto


def _bare(model: Any) -> Any:
    """Take out what a run does not need: stack traces, which name files of this machine."""
    for part in (model.graph, *model.functions):
        part.ClearField("value_info")
        part.ClearField("metadata_props")
        for node in part.node:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
    for tensor in (*model.graph.initializer, *model.graph.input, *model.graph.output):
        tensor.ClearField("metadata_props")
    model.ClearField("metadata_props")
    return model


def _compare(graph: Graph, data: bytes) -> None:
    """Refuse a file with which onnxruntime computes anything else than torch."""
    session = session_of(data)
    for count in _BATCHES:
        inputs = graph.rows(count)
        try:
            (result,) = session.run(None, {name: x.numpy() for name, x in inputs.items()})
        except Exception as error:  # onnxruntime has exceptions of its own for each status
            raise UserError(
                f"the network cannot be exported: with {count} rows, onnxruntime refuses it "
                f"({reason_of(error)})."
            ) from error
        expected = graph.module(*inputs.values())
        difference = (torch.from_numpy(result) - expected).abs().max().item()
        if not difference <= TOLERANCE * max(1.0, expected.abs().max().item()):
            raise UserError(
                f"the network cannot be exported: with {count} rows, onnxruntime differs from "
                f"torch by {difference:.1e}."
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own notes, which no user can mend, from the terminal."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
