"""Addresses of a cluster: its head is joined at HOST:6379, its dashboard takes jobs by http."""

import os
from urllib.parse import urlsplit

from metatrain.base.errors import UserError

# The dashboard of a cluster on this machine, or of one that `ray dashboard` forwards.
DEFAULT_DASHBOARD = "http://127.0.0.1:8265"

# The port at which nodes and drivers join a head, unless it was started with another one.
_HEAD_PORT = 6379

# Values of RAY_ADDRESS that name no host.
_LOCAL, _ANY = "local", "auto"


def address_to_join() -> str | None:
    """Return the address in RAY_ADDRESS; None where it names no cluster to join.

    Raises:
        UserError: when it is an address for something else.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    scheme, host = urlsplit(address).scheme, urlsplit(address).hostname or "HEAD"
    if scheme in ("http", "https"):
        raise UserError(
            f"RAY_ADDRESS is {address}, a dashboard, which takes jobs; to join the cluster, set it "
            f"to {host}:{_HEAD_PORT}, or submit a job and leave that to it."
        )
    if scheme == "ray":
        raise UserError(
            f"RAY_ADDRESS is {address}, the address for Ray Client, which cannot train; on a node "
            f"of the cluster, set it to {host}:{_HEAD_PORT}, and from elsewhere submit a job."
        )
    return None if address in ("", _LOCAL) else address


def dashboard_address(address: str | None) -> str:
    """Return the URL of a cluster's dashboard.

    Args:
        address: a URL, or a host and port; None takes the environment's, as Ray's commands do.

    Raises:
        UserError: when it is an address for something else.
    """
    joined = os.environ.get("RAY_ADDRESS", "")
    environment = os.environ.get("RAY_API_SERVER_ADDRESS") or (
        "" if joined in (_LOCAL, _ANY) else joined
    )
    url = (address or environment or DEFAULT_DASHBOARD).rstrip("/")
    url = url if "://" in url else f"http://{url}"
    parts = urlsplit(url)
    host = parts.hostname or "HEAD"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(
            f"{url} is not the address of a Ray dashboard; give --address http://{host}:8265."
        )
    if parts.port == _HEAD_PORT:
        raise UserError(
            f"{host}:{_HEAD_PORT} is where nodes join the cluster, and jobs go to its dashboard; "
            f"give --address http://{host}:8265."
        )
    return url
