"""Packages of npm: downloaded once, verified by their hash, and never unpacked or run."""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from metatrain.base.errors import UserError
from metatrain.base.progress import Progress, say

REGISTRY = "https://registry.npmjs.org"
_CHUNK = 1 << 20
_SECONDS = 1800


@dataclass(frozen=True, kw_only=True)
class NpmPackage:
    """One version of a package.

    Attributes:
        name: such as ``@iconify/json``.
        version: such as ``2.2.535``.
        integrity: the sha512 of the archive, in the registry's notation.
        size: of the archive, in bytes.
    """

    name: str
    version: str
    integrity: str
    size: int

    @property
    def url(self) -> str:
        """The address of the archive."""
        return f"{REGISTRY}/{self.name}/-/{self.name.rpartition('/')[2]}-{self.version}.tgz"

    @property
    def cached(self) -> Path:
        """The place of the archive in the user's cache."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        name = self.name.removeprefix("@").replace("/", "-")
        return cache / "metatrain" / f"{name}-{self.version}.tgz"

    def fetched(self) -> Path:
        """Return the archive in the user's cache, downloaded first if it is not there.

        Raises:
            UserError: when it cannot be downloaded, or has another hash.
        """
        archive = self.cached
        if archive.exists() and integrity_of(archive) == self.integrity:
            return archive
        try:
            archive.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
                download = Path(folder) / archive.name
                self._fetch(download)
                if integrity_of(download) != self.integrity:
                    raise UserError(
                        f"the registry's archive of {self.name} {self.version} is not the "
                        "published one (its sha512 differs); try again, or through another proxy."
                    )
                download.replace(archive)
        except OSError as error:
            raise UserError(
                f"cannot download {self.name} {self.version} ({error}); install npm or open the "
                f"network to registry.npmjs.org, or put the file of {self.url} at {archive}."
            ) from error
        return archive

    def _fetch(self, to: Path) -> None:
        """Download by npm, which has its user's proxies and mirrors, or from the registry."""
        npm = shutil.which("npm")
        if npm is None:
            self._download(to)
            return
        say(f"downloading {self.name} {self.version} ({self.size / 1e6:.0f} MB) by npm")
        package = f"{self.name}@{self.version}"
        command = [npm, "pack", "--ignore-scripts", "--silent", "--pack-destination", to.parent]
        try:
            subprocess.run([*command, package], check=True, capture_output=True, timeout=_SECONDS)
        except subprocess.SubprocessError as error:
            reason = getattr(error, "stderr", b"").decode(errors="replace").strip()
            raise OSError(reason.splitlines()[0] if reason else "npm pack failed") from error

    def _download(self, to: Path) -> None:
        progress = Progress(f"downloading {self.name}, MB", self.size // 10**6)
        with urllib.request.urlopen(self.url, timeout=60) as answer, to.open("wb") as file:
            # One byte beyond the known size shows that it is another file.
            while file.tell() <= self.size and (chunk := answer.read(_CHUNK)):
                file.write(chunk)
                progress.update(file.tell() // 10**6)
        progress.close()


def integrity_of(archive: Path) -> str:
    """Return the hash of a file in npm's notation."""
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    return f"sha512-{base64.b64encode(digest).decode()}"


def members(
    archive: Path, names: re.Pattern[str], most_bytes: int
) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the names and files of an archive whose whole names match, in its order.

    Nothing is unpacked to disk. Links, empty files and files above `most_bytes` are passed over.

    Raises:
        tarfile.TarError: when it is no archive; or an OSError or EOFError.
    """
    # As a stream: every member is read once, and none by a reference from another.
    with tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            fits = member.isreg() and 0 < member.size <= most_bytes
            file = tar.extractfile(member) if fits and names.fullmatch(member.name) else None
            if file:
                yield member.name, file
