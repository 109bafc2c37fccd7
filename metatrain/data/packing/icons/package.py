"""The npm package of the icons, read without trusting it."""

import json
import re
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from metatrain.base.errors import UserError
from metatrain.data.packing.npm import NpmPackage, members

ICONIFY = NpmPackage(
    name="@iconify/json",
    version="2.2.535",
    integrity="sha512-nAV60ACUSHwnsb6fsp+letHlNkrwO4vzBtcC6B4EDHEr"
    "QQfezk7E3nJdnwJjve6OCfMNO0uVT5Vrgna9/NCmXw==",
    size=104_043_282,
)
# The largest set in use has 26 MB; larger ones are emoji with their shading.
SET_BYTES = 32_000_000


def packaged_sets(archive: Path, names: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the parsed icon sets of the archive; nothing is unpacked to disk.

    Args:
        archive: the package.
        names: the short names of the sets to read; None reads all.

    Raises:
        UserError: when it is no archive of icon sets.
    """
    try:
        for _, file in members(archive, _sets(names), SET_BYTES):
            yield json.load(file)
    except (tarfile.TarError, OSError, EOFError, ValueError, RecursionError) as error:
        raise UserError(
            f"{archive} cannot be read as icon sets ({error}); remove it and pack again."
        ) from error


def _sets(names: Collection[str] | None) -> re.Pattern[str]:
    name = "[a-z0-9-]+" if names is None else "|".join(re.escape(name) for name in names)
    return re.compile(rf"package/json/({name})\.json")
