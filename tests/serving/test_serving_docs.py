"""The client in docs/serving.md, against the server that the command starts."""

import io
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from small_models import save

DOCS = Path(__file__).parents[2] / "docs" / "serving.md"
COMMAND = (
    "import sys; from metatrain.cli.command import run; from serving.commands import SERVE; "
    "sys.exit(run('metatrain', {'serve': SERVE}))"
)


@pytest.fixture
def server(packed, tmp_path):
    """The URL that the command prints, and the token that it made."""
    model = save(packed, tmp_path / "small", "run.name=small")
    folder = tmp_path / "state"
    command = [sys.executable, "-c", COMMAND, "serve", model, "--dir", folder]
    process = subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        url = re.search(r"http://127.0.0.1:\d+", line)[0]
        tokens = folder / "tokens.json"
        assert str(tokens) in line
        token = json.loads(tokens.read_text())["default"]["token"]
        assert token not in line
        yield url, token
        process.send_signal(signal.SIGINT)
        assert "Traceback" not in process.stderr.read()
        assert process.wait(10) == 130
    finally:
        process.kill()
        process.wait()


def test_the_client_of_the_docs(server, images):
    code = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    url, token = server
    names = [str(file) for file in sorted(Path(images, "task-03").glob("*.png"))[:3]]
    values = {"URL": url, "TOKEN": token, "NAMES": names}
    exec(code, values)
    sheet = Image.open(io.BytesIO(values["sheet"]))
    assert sheet.size[0] == sheet.size[1] > 2 * 16
    assert values["client"].get("/v1/adaptations").json() == []
