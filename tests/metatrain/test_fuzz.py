"""Mutated models, checkpoints, manifests, configurations, images: a value or a sentence, soon."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from fuzzing import FUZZ, TIMEOUT, altered, damaged, memory, outcome
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from metatrain.config import load_config, to_yaml
from metatrain.config.reading import load_values, parse_config
from metatrain.config.yaml_values import parse_file
from metatrain.data.examples import Examples
from metatrain.data.images import BadImage, normalise, open_packed, shape_of
from metatrain.data.packed.manifest import FOOTERS_KEY, MANIFEST, manifest_schema, parse_manifest
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.tasks.grouping import read_grouping
from metatrain.generators.frozen import FrozenWeights, load_frozen
from metatrain.metrics.precomputed import Precomputed
from metatrain.model.build import build_theta
from metatrain.model.calibration import Calibration
from metatrain.model.expectation import warning
from metatrain.model.file import parse_model
from metatrain.model.model import Model
from metatrain.storage.tensors import read_metadata
from metatrain.training.checkpoint import CheckpointStore, draft_of, state_of
from metatrain.training.checkpoint.index import COMMIT, INDEX, sha256
from metatrain.training.state import first_state

pytestmark = TIMEOUT


@pytest.fixture(scope="module")
def small() -> Any:
    return load_config(None, ["data.image_size=8", "generator.width=8", "data.shots=2"])


@pytest.fixture(scope="module")
def model(small) -> bytes:
    """An adapted and calibrated model with a caption for each image of its support."""
    support = Examples(torch.zeros(2, 1, 8, 8), {"caption": ("a", "b"), "n": torch.ones(2, 1)})
    nearer = torch.zeros(2, 3, 4, dtype=torch.int32)
    calibration = Calibration("", "theirs", 2, torch.rand(3, 8), torch.rand(3), nearer)
    parameters = build_theta(small).copy()
    return Model(small, parameters, 5, support, calibration).to_bytes()


def load_and_use(data: bytes) -> None:
    loaded = parse_model(data, "theirs")
    assert loaded.sha256
    loaded.generator()
    if loaded.support is not None:
        warning(loaded, loaded.support)


@given(data=st.data())
@FUZZ
def test_a_model_file(model, data):
    content = data.draw(damaged(model))
    outcome(lambda: load_and_use(content))


@given(data=st.data())
@FUZZ
def test_the_configuration_and_the_metadata_of_a_model(model, data):
    metadata = read_metadata(model)
    config = data.draw(altered(json.loads(metadata["config"])))
    other = data.draw(altered({n: v for n, v in metadata.items() if n != "config"}))
    other = other if isinstance(other, dict) else {}
    texts = {str(n): v if isinstance(v, str) else json.dumps(v) for n, v in other.items()}
    content = _with_metadata(model, {"config": json.dumps(config)} | texts)
    outcome(lambda: load_and_use(content))


def _with_metadata(content: bytes, metadata: dict[str, Any]) -> bytes:
    """Replace the metadata of a safetensors file, as JSON can hold it."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end]) | {"__metadata__": metadata}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[end:]


@given(data=st.data())
@FUZZ
def test_the_header_of_a_safetensors_file(model, packed, data, tmp_path):
    kind = data.draw(st.sampled_from(["model", "features", "weights", "grouping"]))
    layer = torch.nn.Linear(2, 2)
    content = {
        "model": model,
        "features": save(
            {"sha256": torch.zeros(3, 32, dtype=torch.uint8), "features": torch.rand(3, 4)},
            {"name": "theirs"},
        ),
        "weights": save(dict(layer.state_dict())),
        "grouping": save(
            {"train": torch.zeros(2, 256, dtype=torch.int32)},
            {"format": "metatrain-grouping-1", "data": EpisodeStore(packed).fingerprint},
        ),
    }[kind]
    end = 8 + int.from_bytes(content[:8], "little")
    header = data.draw(altered(json.loads(content[8:end])))
    text = json.dumps(header).encode()
    changed = len(text).to_bytes(8, "little") + text + content[end:]
    (tmp_path / "file.safetensors").write_bytes(changed)
    path = f"{tmp_path}/file.safetensors"
    read: dict[str, Callable[[], object]] = {
        "model": lambda: load_and_use(changed),
        "features": lambda: Precomputed(path),
        "weights": lambda: load_frozen(layer, FrozenWeights(path=path)),
        "grouping": lambda: read_grouping(path, EpisodeStore(packed)),
    }
    outcome(read[kind])


@pytest.fixture(scope="module")
def checkpoint(small, tmp_path_factory) -> str:
    """The folder of a run with one checkpoint."""
    run = str(tmp_path_factory.mktemp("fuzz") / "run")
    theta = build_theta(small).copy()
    CheckpointStore(run).save(draft_of(first_state(theta), small))
    return run


@given(data=st.data())
@FUZZ
def test_the_index_of_a_checkpoint(checkpoint, data):
    store = CheckpointStore(checkpoint)
    index = Path(store.folder(0), INDEX)
    whole, commit = index.read_bytes(), index.with_name(COMMIT).read_bytes()
    alter = altered(json.loads(whole)).map(lambda values: json.dumps(values).encode())
    content = data.draw(st.one_of(alter, damaged(whole)))
    step = data.draw(st.sampled_from([0, 0, 0, 0, -1, 2**64]))
    try:
        index.write_bytes(content)
        index.with_name(COMMIT).write_text(json.dumps({"step": step, "index": sha256(content)}))

        def read() -> None:
            opened = store.open(0)
            assert opened.config
            state_of(opened)

        outcome(read)
    finally:
        index.write_bytes(whole)
        index.with_name(COMMIT).write_bytes(commit)


@given(data=st.data())
@FUZZ
def test_a_manifest(packed, data, tmp_path):
    whole = Path(packed, MANIFEST).read_bytes()
    content = data.draw(st.one_of(damaged(whole), _rewritten(whole)))
    store_and_read(content, packed)


def store_and_read(manifest: bytes, data: str) -> None:
    def read() -> None:
        store = EpisodeStore(data, manifest=manifest)
        for task in store.tasks("train")[:2]:
            store.read(task, [0, task.count - 1])

    outcome(read)


@st.composite
def _rewritten(draw: st.DrawFn, manifest: bytes) -> bytes:
    """A manifest that pyarrow writes, with other values in a column."""
    table = pq.read_table(io.BytesIO(manifest))
    name = draw(st.sampled_from(table.column_names))
    kind = table.schema.field(name).type
    values = table[name].to_pylist()
    for at in draw(st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=3)):
        values[at] = draw(
            st.text(max_size=20).filter(lambda text: text.isprintable())
            if pa.types.is_string(kind)
            else st.integers(-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1)
        )
    column = table.schema.get_field_index(name)
    changed = table.set_column(column, table.schema.field(name), pa.array(values, kind))
    buffer = io.BytesIO()
    pq.write_table(changed, buffer, compression=draw(st.sampled_from(["zstd", "snappy", "none"])))
    return buffer.getvalue()


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux")
@pytest.mark.parametrize(("rows", "images"), [(20_000, 1), (16, 100_000)])
def test_the_memory_of_opening_a_data_set_is_what_the_docs_say(rows, images):
    schema = manifest_schema(sources=True, columns=False).with_metadata({FOOTERS_KEY: b"{}"})
    row = {"split": "train", "file": "data-00000.parquet", "count": images, "length": 2**40}
    row |= {"row_group": 0, "offset": 0, "images": 0, "sources": [1000] * images}
    columns: dict[str, Any] = {name: [value] * rows for name, value in row.items()}
    columns["task"] = [f"{i}" + "x" * 300 for i in range(rows)]
    columns["sha256"] = [sha256(b"%d" % i) for i in range(rows)]
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema), buffer)
    data = buffer.getvalue()
    del columns
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    assert len(parse_manifest(data).groups) == rows
    # 2^24 values of 72 bytes are 1.2 GB.
    most = 300 * len(data) + 72 * rows * images
    assert (memory("VmHWM") - before) * 1e6 < most


@given(data=st.data())
@FUZZ
def test_a_yaml_configuration(small, data):
    whole = to_yaml(small).encode()
    snippets = st.sampled_from(
        [b"&a [*a, *a]", b"!!python/object/apply:os.system [id]", b"${oc.env:HOME}", b"{" * 2000]
    )
    content = data.draw(st.one_of(damaged(whole), snippets.map(lambda s: whole + b"run: " + s)))

    def read() -> None:
        parse_config(parse_file(content, "theirs.yaml"))

    outcome(read)


@given(data=st.data())
@FUZZ
def test_overrides_of_a_configuration(small, data):
    values = data.draw(altered(small.model_dump(mode="json")))
    outcome(lambda: parse_config(values))
    key, value = data.draw(st.tuples(st.text(max_size=10), st.text(max_size=20)))
    outcome(lambda: parse_config(load_values(None, [f"{key}={value}"])))


def _encoded(kind: str) -> bytes:
    noise = np.random.default_rng(0)
    if kind == "wide":
        image = Image.fromarray(noise.integers(0, 2**16, (9, 11), np.uint16))
    else:
        image = Image.fromarray(noise.integers(0, 256, (9, 11, 3), np.uint8))
    if kind == "raw":
        return b"P6 11 9 255\n" + image.tobytes()
    buffer = io.BytesIO()
    image.save(buffer, {"wide": "PNG"}.get(kind, kind))
    return buffer.getvalue()


KINDS = ("raw", "PPM", "PNG", "wide", "JPEG", "GIF", "BMP", "TIFF", "WEBP")


@given(data=st.data())
@FUZZ
def test_an_image(data):
    content = data.draw(damaged(_encoded(data.draw(st.sampled_from(KINDS)))))
    outcome(lambda: normalise(content), BadImage)
    outcome(lambda: normalise(content, 8, raw=True), BadImage)
    outcome(lambda: (open_packed(content), shape_of(content)), BadImage)


@pytest.mark.parametrize("header", [b"P6 99999 99999 255\n", b"P5 99999 99999 255\n"])
def test_raw_pixels_that_are_not_there_take_nomemory(header):
    outcome(lambda: open_packed(header + b"\x00" * 30), BadImage)
