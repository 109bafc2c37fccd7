"""The command that this package adds to `metatrain`."""

import argparse
from pathlib import Path

from metatrain.base.errors import UserError
from metatrain.cli.arguments import add_device_argument, add_trust_argument
from metatrain.cli.command import Command


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "models",
        nargs="*",
        metavar="MODEL",
        help="model files, folders of finished runs, or names (those in ./runs, and with a name)",
    )
    add("--dir", metavar="DIR", type=Path, help="folder of adaptations (~/.local/state/...)")
    add("--port", type=_port, default=0, help="of 127.0.0.1 (any free one)")
    add("--no-browser", action="store_true", help="print the URL, and open nothing")
    add_device_argument(parser)
    add_trust_argument(parser)


def _port(text: str) -> int:
    """A port's number, for argparse."""
    port = int(text)
    if not 0 <= port < 2**16:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 65535")
    return port


def _studio(arguments: argparse.Namespace) -> None:
    try:
        import python_multipart  # noqa: F401  starlette needs it first when images arrive

        from serving.studio import run_studio, state_folder, trained_models
    except ModuleNotFoundError as error:
        raise UserError(
            f"the studio needs {error.name}; install it with pip install 'metatrain[studio]'."
        ) from error

    run_studio(
        arguments.models or trained_models(),
        folder=arguments.dir or state_folder(),
        port=arguments.port,
        device=arguments.device,
        trust=arguments.trust,
        browser=not arguments.no_browser,
    )


STUDIO = Command("Adapt and draw in the browser.", _arguments, _studio)
