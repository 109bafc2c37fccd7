"""The LoRA of an adaptation is what `metatrain export` writes of its model, or there is none."""

import io
import zipfile

import pytest
from http_client import adapted
from safetensors.torch import load
from tiny_backbones import save_over

import metatrain
from metatrain.model.export.backbone import adapter_files
from metatrain.model.lora_layouts import LORA_FILE
from serving.models import Models

# By backbone, the format that most tools read of it.
FORMATS = {"UNet2DConditionModel": "kohya", "UNet2DModel": "peft"}


@pytest.fixture(params=FORMATS)
def backbone(request):
    return request.param


@pytest.fixture
def models(tmp_path_factory, backbone):
    named = ["run.name=small", "adapt.steps=2"]
    model = save_over(tmp_path_factory.mktemp("over"), backbone, *named)
    return Models([model], "cpu", trust=True, loaded=2)


def test_a_lora_is_the_exported_one(serve, pictures, backbone, tmp_path):
    with serve() as client:
        place = adapted(client, pictures, previews="false")
        answer = client.get(f"{place}/lora")
        assert answer.status_code == 200
        model_file = tmp_path / place.rpartition("/")[2] / "adapted.safetensors"
    files = adapter_files(metatrain.load(model_file, trust=True), FORMATS[backbone])
    if FORMATS[backbone] == "kohya":
        assert "small-lora.safetensors" in answer.headers["content-disposition"]
        assert answer.content == files[LORA_FILE]
    else:
        assert "small-lora.zip" in answer.headers["content-disposition"]
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            assert {name: archive.read(name) for name in archive.namelist()} == files
    *_, content = files.values()
    assert all(tensor.any() for tensor in load(content).values())
