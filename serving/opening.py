"""The folder and the socket of a server, opened before anything is imported that computes."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from metatrain.base.errors import UserError
from metatrain.model.named import named_models
from metatrain.model.places import model_url, refuse_missing, run_models
from metatrain.storage.files import reaching
from metatrain.storage.lease import lease

# The names of this machine. A page whose own name was made to lead here is asked for by that name.
HOSTS = ("127.0.0.1", "localhost", "[::1]")


def served_models(urls: Sequence[str]) -> Sequence[str]:
    """Return the models to serve: the given ones, or those of finished runs and those with names.

    Raises:
        UserError: when there is none, or one is not there.
    """
    if not urls:
        return trained_models()
    for url in urls:
        refuse_missing(model_url(url))
    return urls


def trained_models() -> list[str]:
    """List the models of the finished runs in `runs` and those with names, where none is given.

    Raises:
        UserError: when there is none.
    """
    urls = [*map(str, run_models()), *(model.file for model in named_models().values())]
    if not urls:
        raise UserError(
            "there is no model in ./runs; name a model file or the folder of a finished run."
        )
    return urls


def make_private(folder: Path) -> None:
    """Make a folder, and those above it, that this user alone can read, unless it is there.

    Raises:
        UserError: when it cannot be made.
    """
    with reaching(str(folder)):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UserError(
                f"{folder} has to be a folder, and a file is at {error.filename}; choose another "
                f"place."
            ) from error


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder of adaptations, which no other server may have.

    Raises:
        UserError: when it is none or in use.
    """
    make_private(folder)
    with lease(str(folder), "serves"):
        yield


@contextmanager
def listening(address: str, port: int) -> Iterator[socket.socket]:
    """Open a socket that listens; 0 is any free port.

    Raises:
        UserError: when it cannot be had.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # Only where it knows the protocol does asyncio send small answers at once (TCP_NODELAY), which
    # wait 40 ms for the client's acknowledgement else.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((address, port))
            bound.listen()  # whoever comes before the server runs waits for it
        except (OSError, TypeError) as error:  # the second for what is no name of a host
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"port {port} of {address} cannot be used ({reason}); choose another."
            ) from error
        yield bound
