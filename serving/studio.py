"""The studio: one process on this machine that serves its page and the API to its own user.

`studio_app` is what it serves.
"""

import secrets
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from metatrain.base.progress import say
from serving.opening import HOSTS, held, listening


def run_studio(
    urls: Sequence[str],
    *,
    folder: Path,
    port: int,
    device: str,
    trust: bool,
    browser: bool,
) -> None:
    """Serve the studio at 127.0.0.1 until the process is interrupted.

    Args:
        urls: the models.
        folder: holds the adaptations.
        port: 0 for any free one.
        device: where the models compute.
        trust: whether to read the places that the models' files name.
        browser: whether to open the page.

    Raises:
        UserError: when a model cannot be loaded, the folder is in use, or the port is taken.
    """
    with held(folder), listening(HOSTS[0], port) as bound:
        token = secrets.token_urlsafe(24)
        url = f"http://{HOSTS[0]}:{bound.getsockname()[1]}/?token={token}"
        say(f"The studio is at {url}\nCtrl-C ends it; adaptations stay in {folder}.")
        with _opened(url) if browser else nullcontext():
            # Only now, since torch takes a second to import; the browser waits for its answer.
            from serving.studio_app import serve_studio

            serve_studio(urls, folder=folder, bound=bound, token=token, device=device, trust=trust)


@contextmanager
def _opened(url: str) -> Iterator[None]:
    """Open `url` in the browser by a page that leads there.

    Other users of the machine see the arguments of the browser's process, and only this user can
    read the page.
    """
    with TemporaryDirectory(prefix="metatrain-") as folder:
        page = Path(folder) / "studio.html"
        page.write_text(entry_page(url))
        Thread(target=webbrowser.open, args=[page.as_uri()], daemon=True).start()
        yield


def entry_page(url: str) -> str:
    """Return a page that leads to `url`."""
    return f'<meta http-equiv="refresh" content="0; url={url}">'
