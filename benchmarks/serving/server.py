"""A server in a process of its own, as the command starts it."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2

_CODE = (
    "import sys; from metatrain.cli.command import run; from serving.commands import SERVE; "
    "sys.exit(run('metatrain', {'serve': SERVE}))"
)
# One client with every place of the server.
_TOKEN = "token-of-this-benchmark"
_CLIENT = {"token": _TOKEN, "jobs": 100, "uploads": 100, "listeners": 100}


@contextmanager
def served(model: str) -> Iterator[httpx2.Client]:
    """Serve a model on loopback, and return a client of the server."""
    with TemporaryDirectory(prefix="metatrain-") as folder:
        tokens = Path(folder, "tokens.json")
        tokens.touch(mode=0o600)
        tokens.write_text(json.dumps({"benchmark": _CLIENT}))
        command = [sys.executable, "-c", _CODE, "serve", model, "--dir", folder]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                line = process.stderr.readline()
                url = re.search(r"http://[\d.:]+", line)
                if url is None:
                    raise RuntimeError(line)
                headers = {"authorization": f"Bearer {_TOKEN}"}
                limits = httpx2.Limits(max_connections=100)
                with httpx2.Client(
                    base_url=url[0], headers=headers, timeout=600, limits=limits
                ) as client:
                    yield client
            finally:
                process.send_signal(signal.SIGINT)
