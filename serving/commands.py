"""The commands that this package adds to `metatrain`."""

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from metatrain.base.errors import UserError
from metatrain.cli.arguments import above_0, add_device_argument, add_trust_argument, positive
from metatrain.cli.command import Command
from metatrain.model.places import state_folder
from metatrain.storage.files import absolute

if TYPE_CHECKING:
    from serving.on_ray.settings import ServiceSettings


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
        "--ray",
        action="store_true",
        help="compute by replicas on the Ray cluster at RAY_ADDRESS, or on one of this machine",
    )
    add("--store", metavar="URL", help="with --ray: the folder of adaptations (DIR/store)")
    add("--replicas", type=positive, metavar="N", help="with --ray: the most of each kind (2)")
    add("--gpus", type=above_0, metavar="N", help="with --ray: GPUs of each replica (none)")
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
    _refuse_uninstalled()
    from serving.opening import served_models
    from serving.studio import run_studio

    run_studio(
        served_models(arguments.models),
        folder=arguments.dir or state_folder("studio"),
        port=arguments.port,
        device=arguments.device,
        trust=arguments.trust,
        browser=not arguments.no_browser,
    )


def _serve(arguments: argparse.Namespace) -> None:
    if arguments.ray:
        _serve_on_ray(arguments)
        return
    given = [n for n in ("store", "replicas", "gpus") if getattr(arguments, n) is not None]
    if given:
        raise UserError(f"--{given[0]} is of servers on a Ray cluster; give --ray too.")
    _refuse_uninstalled()
    from serving.opening import trained_models
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


def _serve_on_ray(arguments: argparse.Namespace) -> None:
    if arguments.device != "auto":
        raise UserError("--device is of servers on one machine; with --ray, give --gpus.")
    _refuse_uninstalled("serve", "ray")
    from serving.on_ray.run import run_on_ray

    settings = service_settings(arguments)
    run_on_ray(settings, address=arguments.address, port=arguments.port or 8000)


def service_settings(arguments: argparse.Namespace) -> "ServiceSettings":
    """Return the settings of a service on a Ray cluster."""
    from serving.on_ray.settings import ServiceSettings
    from serving.opening import trained_models

    folder = arguments.dir or state_folder("serve")
    return ServiceSettings(
        models=tuple(map(_reached_from_anywhere, arguments.models or trained_models())),
        store=absolute(arguments.store or str(folder / "store")),
        clients=arguments.tokens or folder / "tokens.json",
        hosts=(arguments.address, *arguments.host),
        trust=arguments.trust,
        allow_urls=arguments.allow_urls,
        replicas=arguments.replicas or 2,
        gpus=arguments.gpus or 0,
    )


def _reached_from_anywhere(url: str) -> str:
    """Return the URL of a model for processes in other folders; names stay as they are."""
    return absolute(url) if Path(url).exists() else url


def _refuse_uninstalled(extra: str = "studio", *further: str) -> None:
    """Refuse to serve without what an extra brings, before anything imports it."""
    for name in ("starlette", "uvicorn", "python_multipart", "prometheus_client", *further):
        if find_spec(name) is None:
            raise UserError(f"this needs {name}; install it with pip install 'metatrain[{extra}]'.")


STUDIO = Command("Adapt and draw in the browser.", _studio_arguments, _studio)
SERVE = Command("Serve models to programs, by HTTP.", _serve_arguments, _serve)
