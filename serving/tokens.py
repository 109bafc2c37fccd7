"""The file of the clients: the token of each, and its quota."""

import json
import os
import re
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import Field, RootModel, ValidationError

from metatrain.base.errors import UserError
from metatrain.storage.files import reaching
from metatrain.storage.local_disk import read_part
from serving.limits import Quota
from serving.opening import make_private

# Names of clients are names of folders.
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class Client(Quota):
    """A client.

    Attributes:
        token: its secret.
    """

    token: str = Field(pattern=r"^[\x21-\x7e]{22,200}$", repr=False)
    days: float | None = Field(default=30, gt=0, allow_inf_nan=False)
    jobs: int = Field(default=8, ge=0)
    uploads: int = Field(default=4, ge=0)
    listeners: int = Field(default=16, ge=0)


class _Clients(RootModel[dict[str, Client]]):
    pass


def clients_in(file: Path) -> Mapping[str, Client]:
    """Read the clients by name; where there is no file yet, write one with one client.

    Raises:
        UserError: when others may read the file, it is not such a file, or cannot be written.
    """
    with reaching(str(file)):
        if not file.exists():
            _write_one(file)
        content = read_part(str(file))
        _refuse_open(file)
    try:
        clients = _Clients.model_validate_json(content).root
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "it"
        raise UserError(
            f"{file} cannot be used: {place}: {first['msg']}; it has the form "
            f'{{"NAME": {{"token": "..."}}}}, with quotas if need be.'
        ) from error
    for name in clients:
        if not NAME.fullmatch(name):
            raise UserError(
                f"{file} names a client {name!r}; take lower-case letters, digits, - and _ alone."
            )
    if not clients or len({client.token for client in clients.values()}) < len(clients):
        raise UserError(f"{file} needs at least one client, and a token of its own for each.")
    return clients


def _write_one(file: Path) -> None:
    """Write a file with one client, which only this user can read."""
    make_private(file.parent)
    content = json.dumps({"default": {"token": secrets.token_urlsafe(24)}}, indent=2)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    # Another server may be sooner, or it is a link to nothing.
    with suppress(FileExistsError), os.fdopen(os.open(file, flags, 0o600), "w") as opened:
        opened.write(content + "\n")


def others_may_read(owner: int, mode: int, user: int) -> bool:
    """Tell whether other users than one, and root, may read or change a file.

    The files of a Secret are root's, and a pod's user may read them by its group alone.

    Args:
        owner: the number of its owner.
        mode: its permissions.
        user: the number of the one user.
    """
    if owner == user:
        return bool(mode & 0o077)
    return owner != 0 or bool(mode & 0o037)


def _refuse_open(file: Path) -> None:
    """Refuse a file whose tokens others may know."""
    status = file.stat()
    if others_may_read(status.st_uid, stat.S_IMODE(status.st_mode), os.getuid()):
        raise UserError(
            f"{file} has tokens, and other users may read it; make new ones, and chmod 600 it."
        )
