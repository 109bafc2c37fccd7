"""The server of programs: one process that serves the API to clients with tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from metatrain.base.progress import say
from serving.accounts import Account
from serving.api import Api
from serving.guard import Guard, host_of
from serving.limits import URLS, Limits, Quota
from serving.opening import HOSTS, held, listening
from serving.process import computing, run
from serving.tokens import NAME, Client, clients_in


def run_server(
    urls: Sequence[str],
    *,
    folder: Path,
    tokens: Path,
    address: str,
    port: int,
    hosts: Sequence[str],
    allow_urls: bool,
    device: str,
    trust: bool,
) -> None:
    """Serve the API until the process is interrupted.

    Args:
        urls: the models.
        folder: holds the adaptations, those of each client in a folder of its name.
        tokens: the file of the clients.
        address: where to listen.
        port: 0 for any free one.
        hosts: names under which clients reach the server, beside those of this machine.
        allow_urls: whether to fetch images by URL from public addresses.
        device: where the models compute.
        trust: whether to read the places that the models' files name.

    Raises:
        UserError: when a model or the tokens cannot be read, the folder is in use, or the port is
            taken.
    """
    limits, clients = Limits(urls=URLS if allow_urls else 0), clients_in(tokens)
    with (
        held(folder),
        listening(address, port) as bound,
        computing(urls, device=device, trust=trust, limits=limits) as parts,
    ):
        models, worker = parts
        accounts = accounts_in(folder, clients)
        api = Api(models=models, accounts=[*accounts.values()], worker=worker, limits=limits)
        by_token = {client.token: accounts[name] for name, client in clients.items()}
        host = host_of(address)
        # Each once, since a refusal lists them.
        names = dict.fromkeys((*HOSTS, host, *map(host_of, hosts)))
        app = Guard(api.app(), accounts=by_token, hosts=names, requests=limits.requests)
        url = f"http://{host}:{bound.getsockname()[1]}"
        say(f"Serving at {url}, described at {url}/docs; tokens are in {tokens}. Ctrl-C ends it.")
        run(app, bound, limits)


def accounts_in(folder: Path, clients: Mapping[str, Client]) -> dict[str, Account]:
    """Return the accounts of clients, and of former ones, whose adaptations expire as well."""
    former = {
        path.name: Quota()
        for path in folder.iterdir()
        if NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
    }
    quotas: dict[str, Quota] = {**former, **clients}
    return {name: Account(folder / name, quota) for name, quota in quotas.items()}
