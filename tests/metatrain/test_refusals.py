"""An object store's own reason is told at once, and what lasts is not asked for again."""

import errno
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from object_storage import NOWHERE, forget_connections

from metatrain.base.errors import UserError
from metatrain.data.packing.pack import pack
from metatrain.storage import retry
from metatrain.storage.files import read_file, sha256_of, sizes_under, write_file
from metatrain.storage.lease import lease

REGION = "AuthorizationHeaderMalformed"
LASTING = {
    "ExpiredToken": (400, "log in again"),
    "RequestTimeTooSkewed": (403, "set this machine's clock"),
    REGION: (400, "set AWS_DEFAULT_REGION to eu-west-1, the region of the bucket"),
    "PermanentRedirect": (301, "set AWS_DEFAULT_REGION to eu-west-1, the region of the bucket"),
    "AccessDenied": (403, "check the address and your credentials"),
    "SignatureDoesNotMatch": (403, "check the address and your credentials"),
    "NeverHeardOf": (400, "check the address and your credentials"),
}
PASSING = {"SlowDown": 503, "RequestTimeout": 400, "InternalError": 500}


class Refuser(ThreadingHTTPServer):
    """A server that answers everything with one error, as S3 does: no word to HEAD."""

    status, code = 400, ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Refuser

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked += 1
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        reason = f"<Code>{self.server.code}</Code><Message>The reason.</Message>"
        region = "" if self.server.code == "PermanentRedirect" else "<Region>eu-west-1</Region>"
        body = b"" if self.command == "HEAD" else f"<Error>{reason}{region}</Error>".encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-amz-bucket-region", "eu-west-1")
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815


@pytest.fixture
def refuser(monkeypatch) -> Iterator[Refuser]:
    server = Refuser()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    keys = {"AWS_ACCESS_KEY_ID": "a" * 16, "AWS_SECRET_ACCESS_KEY": "b" * 16}
    where = {"AWS_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in (NOWHERE | keys | where).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setattr(retry, "_FIRST_WAIT", 0.0)
    forget_connections()
    yield server
    forget_connections()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("code", LASTING)
def test_a_lasting_refusal_is_told_with_its_reason_and_never_repeated(refuser, code, tmp_path):
    refuser.code, (refuser.status, advice) = code, LASTING[code]
    # botocore follows another region by itself, once.
    most = 2 if "REGION" in advice else 1
    for ask in (
        lambda: read_file("s3://bucket/x"),
        lambda: write_file("s3://bucket/x", b"1"),
        lambda: pack("s3://bucket/photos", f"{tmp_path}/set"),
        lambda: pack("s3://bucket/t.csv", f"{tmp_path}/set"),
    ):
        refuser.asked = 0
        with pytest.raises(UserError) as error:
            ask()
        assert f"The reason ({code}); {advice}." in str(error.value)
        assert refuser.asked <= most


@pytest.mark.parametrize("code", PASSING)
def test_a_passing_refusal_is_repeated_before_it_is_told(refuser, code):
    refuser.code, refuser.status = code, PASSING[code]
    with pytest.raises(UserError, match=rf"The reason \({code}\); try again later"):
        read_file("s3://bucket/x")
    assert refuser.asked == retry.ATTEMPTS


def _loop(folder: Path) -> str:
    (folder / "loop").symlink_to(folder / "loop")
    return str(folder / "loop")


@pytest.mark.parametrize("place", [_loop, lambda folder: str(folder / ("n" * 300))])
@pytest.mark.parametrize("use", [read_file, sha256_of, sizes_under])
def test_a_path_that_no_disk_has_is_refused_at_once(place, use, tmp_path, monkeypatch):
    monkeypatch.setattr(retry.time, "sleep", lambda _: pytest.fail("it is asked again"))
    with pytest.raises(UserError, match="is no usable path"):
        use(place(tmp_path))


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP, errno.ENXIO, errno.ENOSPC])
def test_a_disks_lasting_errors_are_met_once(number):
    tries = []

    def attempt() -> None:
        tries.append(1)
        raise OSError(number, "a reason")

    with pytest.raises(OSError, match="a reason"):
        retry.retrying(attempt)
    assert len(tries) == 1


def test_a_lease_on_a_path_that_no_disk_has_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match="is no usable path"), lease(f"{tmp_path}/{'n' * 300}", "x"):
        pass
