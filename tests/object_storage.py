"""A real S3 server for the tests, and a clean way to it through the environment."""

import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fault_proxy import FaultProxy
from s3fs import S3FileSystem

from metatrain.storage.object_stores import forget_object_stores
from metatrain.storage.s3_server import BUCKET, S3Server

# Whatever this machine's user has set up for S3 must not reach the tests.
NOWHERE = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """SeaweedFS on loopback, ended by its process id."""
    with S3Server(tmp_path_factory.mktemp("s3"), tmp_path_factory.mktemp("keys")) as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A prefix of the test's own in the server's bucket, as s3://... , with its credentials set."""
    for name, value in (NOWHERE | dict(s3_server.environment)).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    forget_connections()
    yield f"s3://{BUCKET}/{tmp_path.name}"
    forget_connections()


@pytest.fixture
def proxy(s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """The same bucket through a proxy that makes faults."""
    proxy = FaultProxy(s3_server.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    forget_connections()
    yield proxy
    proxy.close()


def forget_connections() -> None:
    """Open file systems keep the address and the key that they were opened with."""
    S3FileSystem.clear_instance_cache()
    forget_object_stores()


def upload(folder: str, url: str) -> str:
    """Copy a packed data set to `url`; returns `url`."""
    fs, root = fsspec.core.url_to_fs(url)
    for file in Path(folder).iterdir():
        fs.pipe_file(f"{root}/{file.name}", file.read_bytes())
    return url
