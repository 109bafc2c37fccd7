"""The commands that this package adds to `metatrain`."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metatrain.base.errors import UserError
from metatrain.cli.arguments import add_device_argument, add_trust_argument
from metatrain.cli.command import Command


def _studio_arguments(parser: argparse.ArgumentParser) -> None:
    _add_arguments(parser)
    parser.add_argument("--no-browser", action="store_true", help="print the URL, and open nothing")


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    _add_arguments(parser)
    add = parser.add_argument
    add("--tokens", metavar="FILE", type=Path, help="clients and their quotas (DIR/tokens.json)")
    add("--address", default="127.0.0.1", help="where to listen (%(default)s)")
    add(
        "--host",
        metavar="NAME",
        action="append",
        default=[],
        help="a name under which clients reach this server, beside localhost; may be repeated",
    )
    add(
        "--allow-urls",
        action="store_true",
        help="fetch images that requests name by URL, from public addresses alone",
    )


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that both commands have."""
    add = parser.add_argument
    add(
        "models",
        nargs="*",
        metavar="MODEL",
        help="model files, folders of finished runs, or names (those in ./runs, and with a name)",
    )
    add("--dir", metavar="DIR", type=Path, help="folder of adaptations (~/.local/state/...)")
    add("--port", type=_port, default=0, help="its number (any free one)")
    add_device_argument(parser)
    add_trust_argument(parser)


def _port(text: str) -> int:
    """A port's number, for argparse."""
    port = int(text)
    if not 0 <= port < 2**16:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 65535")
    return port


def _studio(arguments: argparse.Namespace) -> None:
    with _installed():
        from serving.process import state_folder, trained_models
        from serving.studio import run_studio

    run_studio(
        arguments.models or trained_models(),
        folder=arguments.dir or state_folder("studio"),
        port=arguments.port,
        device=arguments.device,
        trust=arguments.trust,
        browser=not arguments.no_browser,
    )


def _serve(arguments: argparse.Namespace) -> None:
    with _installed():
        from serving.process import state_folder, trained_models
        from serving.server import run_server

    folder = arguments.dir or state_folder("serve")
    run_server(
        arguments.models or trained_models(),
        folder=folder,
        tokens=arguments.tokens or folder / "tokens.json",
        address=arguments.address,
        port=arguments.port,
        hosts=arguments.host,
        allow_urls=arguments.allow_urls,
        device=arguments.device,
        trust=arguments.trust,
    )


@contextmanager
def _installed() -> Iterator[None]:
    """Name the extra that brings what cannot be imported."""
    try:
        import python_multipart  # noqa: F401  starlette needs it first when images arrive

        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"this needs {error.name}; install it with pip install 'metatrain[studio]'."
        ) from error


STUDIO = Command("Adapt and draw in the browser.", _studio_arguments, _studio)
SERVE = Command("Serve models to programs, by HTTP.", _serve_arguments, _serve)
