"""Pixels against latents for the same seconds: a whole small comparison, which resumes."""

import signal

import diffusers
import pytest
import torch
from small_models import metatrain

from benchmarks.latents import equal_seconds
from metatrain.generators.generator import Generator


@pytest.fixture
def own_signal():
    before = signal.getsignal(signal.SIGTERM)  # which the command takes for itself
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.long
@pytest.mark.usefixtures("own_signal")
def test_systems_are_compared_on_the_same_images_and_nothing_is_done_twice(
    packed, tmp_path, capsys, monkeypatch
):
    torch.manual_seed(0)
    diffusers.AutoencoderTiny(
        **{"in_channels": 1, "out_channels": 1, "latent_channels": 2},
        **{"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)},
        **{"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)},
    ).save_pretrained(tmp_path / "codec")
    codec = f"codec: {{name: autoencoder_tiny, path: {tmp_path}/codec}}\n"
    shared = "data: {image_size: 16, channels: 1, shots: 3, queries: 2}\n"
    (tmp_path / "shared.yaml").write_text(shared)
    (tmp_path / "latents.yaml").write_text(shared + codec)
    words = ["--config", tmp_path / "latents.yaml", "--out", tmp_path / "latents"]
    assert metatrain("encode", packed, *words) == 0
    systems = [
        f"run.name=pixels data.path={packed} generator.width=8",
        f"run.name=latents data.path={tmp_path}/latents generator.width=16 generator.patch=1 "
        f"codec.name=autoencoder_tiny codec.path={tmp_path}/codec",
    ]
    further = ["--seconds", "0.3", "--tasks", "3", "--val", "2", "--images", "2", "--set"]
    further += ["learner.name=joint", "adapt.steps=2", "objective.sampler.steps=2"]
    command = [str(tmp_path / "out"), str(tmp_path / "shared.yaml"), *systems, *further]
    assert equal_seconds.main(command) == 0
    table = capsys.readouterr().out
    pixels, latents, real = table.splitlines()[-4:-1]
    assert "pixels" in pixels and "1 x 16 x 16" in pixels and "+0.0000 [+0.0000" in pixels
    assert "latents" in latents and "2 x 8 x 8" in latents
    assert "held-out real" in real
    monkeypatch.setattr(Generator, "sample", lambda *_: pytest.fail("it is measured again"))
    assert equal_seconds.main(command) == 0
    assert capsys.readouterr().out.splitlines()[-4:-1] == [pixels, latents, real]
