"""The keys of an S3 server on this machine, without which none of its ports answers."""

import hashlib
import json
import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from metatrain.base.errors import UserError

# The places of the keys in SeaweedFS' configuration, whose values it reads from the environment:
# what its HTTP ports ask for, and the processes that know each other by the certificate.
_TOKEN_KEYS = ("JWT_SIGNING", "JWT_SIGNING_READ", "JWT_FILER_SIGNING", "JWT_FILER_SIGNING_READ")
_PARTS = ("MASTER", "VOLUME", "FILER", "S3", "CLIENT", "ADMIN", "WORKER")

_LIFETIME = timedelta(days=3650)


class S3Keys:
    """The keys of one server, in a folder that only its user can read.

    Args:
        folder: where they lie; created where it is missing, with keys that stay.

    Attributes:
        access, secret: what clients of S3 log in with.
        s3_file: the file by which the server knows them.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self.s3_file, self._folder = folder.resolve() / "s3.json", folder.resolve()
        if not self.s3_file.exists():
            _write(self.s3_file, _new_s3_keys())
        keys = json.loads(self.s3_file.read_text())["identities"][0]["credentials"][0]
        self.access, self.secret = keys["accessKey"], keys["secretKey"]

    def new_environment(self) -> Mapping[str, str]:
        """Make keys for one start of the server, by which its parts know each other.

        Returns:
            The variables in which SeaweedFS looks for them.
        """
        certificate, key = self._folder / "certificate.pem", self._folder / "key.pem"
        for file, content in zip((certificate, key), _new_certificate(), strict=True):
            file.unlink(missing_ok=True)
            _write(file, content)
        tokens = {f"WEED_{name}_KEY": secrets.token_hex(32) for name in _TOKEN_KEYS}
        files = {"CERT": str(certificate), "KEY": str(key)}
        parts = {f"WEED_GRPC_{part}_{k}": file for part in _PARTS for k, file in files.items()}
        return {**tokens, **parts, "WEED_GRPC_CA": str(certificate)}


def keys_folder(folder: Path) -> Path:
    """Return where the keys of the server in `folder` lie: with the user's state.

    Keys that an earlier metatrain left in `folder` itself are moved there.
    """
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    place = Path(home) / "metatrain" / "stores" / f"{folder.resolve().name}-{digest}"
    earlier, later = folder / "s3.json", place / "s3.json"
    with suppress(FileNotFoundError):
        if not later.exists() and _is_private(earlier):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(later, earlier.read_bytes())
            earlier.unlink()
    return place


def _is_private(file: Path) -> bool:
    """Return whether a file is as we wrote it; others may know the keys in any other."""
    status = file.lstat()
    return status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) == 0o600


def _new_s3_keys() -> bytes:
    keys = {"accessKey": secrets.token_hex(10), "secretKey": secrets.token_hex(20)}
    actions = ["Admin", "Read", "List", "Tagging", "Write"]
    identity = {"name": "metatrain", "credentials": [keys], "actions": actions}
    return json.dumps({"identities": [identity]}).encode()


def _new_certificate() -> tuple[bytes, bytes]:
    """Make a certificate that is its own authority, and its private key, as PEM."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            NoEncryption,
            PrivateFormat,
        )
    except ModuleNotFoundError as error:
        raise UserError(
            f"an S3 server needs {error.name}; install it with pip install 'metatrain[store]'."
        ) from error
    key = generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "metatrain")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM), private


def _write(file: Path, content: bytes) -> None:
    """Write a file that only this user can read."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(content)
