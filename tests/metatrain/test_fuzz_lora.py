"""Mutated LoRA files of strangers, and mutated records of `metatrain refine`: read or refused."""

import json

import pytest
import torch
from fuzzing import FUZZ, TIMEOUT, altered, damaged, outcome
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from tiny_backbones import overrides_of, write_pipeline

from metatrain.base.errors import UserError
from metatrain.combine.from_lora import truncated
from metatrain.combine.lora_files import LoRATerm, read_lora
from metatrain.config import load_config
from metatrain.learning.inner.low_rank import low_rank_terms
from metatrain.model import refine_folder as folders
from metatrain.model.build import build_theta
from metatrain.model.lora_layouts import COMPONENTS, LAYOUTS, PEFT_CONFIG
from metatrain.storage.files import write_file

pytestmark = TIMEOUT

UNET = "UNet2DConditionModel"
RANK = 2
PEFT = {
    "peft_type": "LORA", "r": RANK, "lora_alpha": 4, "use_rslora": True, "use_dora": False,
    "alpha_pattern": {"to_q": 3, "attn1.to_v": 2.5}, "rank_pattern": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A tiny backbone with terms beside the layers that may have one."""
    folder = tmp_path_factory.mktemp("backbone")
    write_pipeline(folder, UNET)
    return build_theta(load_config(None, overrides_of(folder, UNET))).generator.network


@pytest.fixture(scope="module")
def loras(backbone):
    """A LoRA for it in the names of each tool."""
    noise = torch.Generator().manual_seed(0)
    files = {}
    for name, layout in LAYOUTS.items():
        tensors = {}
        for layer, term in list(low_rank_terms(backbone.model).items())[:3]:
            path, (_, columns), rows = (
                layout.path(layer, COMPONENTS[UNET]),
                term.down.shape,
                len(term.up),
            )
            tensors[f"{path}.{layout.down}"] = torch.randn(RANK, columns, generator=noise)
            tensors[f"{path}.{layout.up}"] = torch.randn(rows, RANK, generator=noise)
            if name == "kohya":
                tensors[f"{path}.alpha"] = torch.tensor(4.0)
        told = {"unet.lora_alpha": 4, "unet.r": RANK, "unet.alpha_pattern": {"to_q": 3}}
        metadata = {"lora_adapter_metadata": json.dumps(told)} if name == "diffusers" else None
        files[name] = save(tensors, metadata)
    return files


def read(folder, content, backbone, config=None):
    path = folder / "theirs.safetensors"
    path.write_bytes(content)
    (folder / PEFT_CONFIG).write_bytes(json.dumps(PEFT).encode() if config is None else config)
    terms = read_lora(str(path), backbone)
    known = low_rank_terms(backbone.model)
    for layer, (down, up) in terms.items():
        assert down.shape[1] == known[layer].down.shape[1] and len(up) == len(known[layer].up)
        assert all(part.isfinite().all() for part in truncated(LoRATerm(down, up), 1))


KINDS = st.sampled_from(sorted(LAYOUTS))


def test_the_files_are_read_before_they_are_mutated(tmp_path, loras, backbone):
    for content in loras.values():
        read(tmp_path, content, backbone)


@given(data=st.data(), kind=KINDS)
@FUZZ
def test_a_damaged_lora(tmp_path, loras, backbone, data, kind):
    content = data.draw(st.one_of(st.binary(max_size=200), damaged(loras[kind])))
    outcome(lambda: read(tmp_path, content, backbone))


@given(data=st.data(), kind=KINDS)
@FUZZ
def test_the_header_of_a_lora(tmp_path, loras, backbone, data, kind):
    content = loras[kind]
    end = 8 + int.from_bytes(content[:8], "little")
    text = json.dumps(data.draw(altered(json.loads(content[8:end])))).encode()
    changed = len(text).to_bytes(8, "little") + text + content[end:]
    outcome(lambda: read(tmp_path, changed, backbone))


@pytest.mark.parametrize("value", [3e38, -1e20, float("nan"), float("inf")])
def test_numbers_that_would_overflow_are_refused(tmp_path, loras, backbone, value):
    tensors = load(loras["kohya"])
    next(t for name, t in tensors.items() if "lora_up" in name).view(-1)[0] = value
    (tmp_path / "theirs.safetensors").write_bytes(save(tensors))
    with pytest.raises(UserError, match=r"numbers above 100,000|not finite|no finite"):
        read_lora(f"{tmp_path}/theirs.safetensors", backbone)


@given(data=st.data())
@FUZZ
def test_the_strength_that_diffusers_writes(tmp_path, loras, backbone, data):
    content = loras["diffusers"]
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    told = header["__metadata__"]["lora_adapter_metadata"]
    values = data.draw(st.one_of(altered(json.loads(told)).map(json.dumps), st.text(max_size=50)))
    header["__metadata__"]["lora_adapter_metadata"] = values
    text = json.dumps(header).encode()
    changed = len(text).to_bytes(8, "little") + text + content[end:]
    outcome(lambda: read(tmp_path, changed, backbone))


@given(data=st.data())
@FUZZ
def test_the_configuration_of_peft(tmp_path, loras, backbone, data):
    text = json.dumps(PEFT).encode()
    mutated = st.one_of(altered(PEFT).map(lambda v: json.dumps(v).encode()), damaged(text))
    config = data.draw(st.one_of(st.binary(max_size=100), mutated))
    outcome(lambda: read(tmp_path, loras["peft"], backbone, config))


RECORD = {"model": "a" * 64, "support": "b" * 64, "steps": None, "lr": 0.01, "seed": 0}
RECORD_TEXT = json.dumps(RECORD, indent=1).encode()


@given(
    content=st.one_of(
        st.binary(max_size=200),
        damaged(RECORD_TEXT),
        altered(RECORD).map(lambda values: json.dumps(values).encode()),
        st.sampled_from([b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5_000]),
    ),
    present=st.sets(st.text(max_size=5), max_size=2),
)
@FUZZ
def test_the_record_of_a_refinement(tmp_path, content, present):
    write_file(f"{tmp_path}/{folders.RECORD}", content)
    outcome(lambda: folders._begin(str(tmp_path), RECORD, present))
    # Another refinement's images are never taken for ours.
    assert (tmp_path / folders.RECORD).read_bytes() == content
