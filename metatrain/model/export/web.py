"""A page that samples from an adapted model in a browser, with no server behind it."""

import re
import tarfile
from pathlib import Path

from metatrain.base.errors import UserError
from metatrain.base.text import reason_of
from metatrain.data.packing.npm import NpmPackage, members
from metatrain.model.export.sampling import sampling_files, write_files
from metatrain.model.model import Model

RUNTIME = NpmPackage(
    name="onnxruntime-web",
    version="1.30.0",
    integrity=(
        "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
    ),
    size=33_106_585,
)
# The one script and the one program of the archive that a page needs.
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
_RUNTIME_NAMES = re.compile("package/dist/(?:" + "|".join(map(re.escape, RUNTIME_FILES)) + ")")
_MOST_BYTES = 30_000_000

PAGE = Path(__file__).with_name("page")
# Last the file that a browser opens.
_PAGE_FILES = ("page.css", "page.js", "sampling.js", "worker.js", "index.html")


def export_web(model: Model, folder: str, *, int8: bool = False) -> str:
    """Write a folder for any web server, which samples from an adapted model in the browser.

    Args:
        model: the model.
        folder: where to write.
        int8: whether the network is to have weights and activations of 8 bits.

    Returns:
        The URL of its page.

    Raises:
        UserError: when the model cannot be exported, or onnxruntime-web cannot be had; nothing is
            written then.
    """
    files = _runtime() | sampling_files(model, int8=int8)
    write_files(folder, files | {name: (PAGE / name).read_bytes() for name in _PAGE_FILES})
    return f"{folder}/index.html"


def _runtime() -> dict[str, bytes]:
    """Return the files of onnxruntime-web, out of the verified archive in the user's cache."""
    archive = RUNTIME.fetched()
    try:
        files = {
            f"onnxruntime/{name.rpartition('/')[2]}": file.read()
            for name, file in members(archive, _RUNTIME_NAMES, _MOST_BYTES)
        }
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"{archive} cannot be read ({reason_of(error)}); delete it.") from error
    if len(files) != len(RUNTIME_FILES):
        raise UserError(f"{archive} lacks {' or '.join(RUNTIME_FILES)}; delete it.")
    return files
