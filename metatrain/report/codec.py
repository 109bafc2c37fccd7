"""The page of a codec: reconstructions of unseen tasks, and the quality that they bound."""

from collections.abc import Sequence
from typing import NamedTuple

from metatrain import __version__
from metatrain.data.pictures import png
from metatrain.evaluation.reconstruction import Reconstruction, mean_psnr
from metatrain.report.formatting import report_template
from metatrain.report.pages import data_url
from metatrain.storage.files import write_file

# Tasks shown of each kind, and the width of an image in pixels of the page at least.
_SHOWN, _WIDTH = 12, 96


class _Panel(NamedTuple):
    task: str
    psnr: float
    image: str
    decoded: str


def write_codec_page(url: str, codec: str, sha256: str, results: Sequence[Reconstruction]) -> None:
    """Write the page of a codec, one file that needs nothing else.

    Args:
        url: the page.
        codec: the codec's file.
        sha256: of that file.
        results: reconstructions of tasks that it was not trained on.

    Raises:
        UserError: when it cannot be written.
    """
    ordered = sorted(results, key=lambda result: result.psnr)
    spread = [results[i * len(results) // _SHOWN] for i in range(min(_SHOWN, len(results)))]
    page = report_template("codec.html.j2").render(
        codec=codec.rpartition("/")[2],
        sha256=sha256,
        ceiling=mean_psnr(list(results)),
        tasks=len(results),
        size=results[0].image.shape[-1],
        groups={"Unseen tasks": _panels(spread), "The worst": _panels(ordered[:_SHOWN])},
        version=__version__,
    )
    write_file(url, page.encode())


def _panels(results: Sequence[Reconstruction]) -> list[_Panel]:
    scale = max(1, -(-_WIDTH // results[0].image.shape[-1]))
    return [
        _Panel(r.task, r.psnr, *(data_url(png(i, scale)) for i in (r.image, r.decoded)))
        for r in results
    ]
