"""Patients: the secret of their pseudonyms, and the one split that each may be in.

A hash without a secret would hide nothing: whoever has a list of patients hashes them all.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from metatrain.base.errors import UserError
from metatrain.base.text import printable

_LEAST_BYTES, _NEW_BYTES = 16, 32


class Salt:
    """The secret of pseudonyms, a file that is made where it is missing.

    Args:
        file: None: the user's own, with the state of programs; never a part of a data set.

    Raises:
        UserError: when it cannot be read or made, or is too short for a secret.
    """

    def __init__(self, file: str | None) -> None:
        path = Path(file).expanduser() if file else _usual_file()
        try:
            self._secret = _read_or_make(path)
        except OSError as error:
            raise UserError(
                f"the secret of patients' pseudonyms cannot be read from {path} "
                f"({error.strerror}); name another file by --patient-salt."
            ) from error
        if len(self._secret) < _LEAST_BYTES:
            raise UserError(
                f"{path} has {len(self._secret)} bytes, too few for a secret; give a file of at "
                f"least {_LEAST_BYTES}, or one that does not exist, which is then made."
            )

    @property
    def mark(self) -> str:
        """A text that tells one secret from another, and nothing else about it."""
        return self.digest("mark", "")

    def pseudonym(self, patient: str) -> str:
        """Return the pseudonym of a patient, the same wherever the secret is the same."""
        return f"patient-{self.digest('patient', patient.strip())}"

    def digest(self, meaning: str, text: str) -> str:
        """Return a hash of a text that cannot be guessed without the secret."""
        message = f"{meaning}/{text}".encode(errors="surrogatepass")
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()[:16]


def _usual_file() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(home) / "metatrain" / "patient-salt"


def _read_or_make(path: Path) -> bytes:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(handle, "wb") as stream:
        stream.write(secret := secrets.token_bytes(_NEW_BYTES))
    return secret


@dataclass(frozen=True)
class Patients:
    """The patients of a source.

    Attributes:
        mark: of the secret that made their pseudonyms.
        of_task: the pseudonyms of the people whose images a task has.
    """

    mark: str
    of_task: Mapping[str, frozenset[str]]

    def splits(self, of_tasks: Mapping[str, str], before: Mapping[str, str]) -> dict[str, str]:
        """Return the split of every patient.

        Args:
            of_tasks: the split of each task.
            before: the split of patients that the data set has already.

        Raises:
            UserError: when a patient is in two splits.
        """
        splits = dict(before)
        for task, split in sorted(of_tasks.items()):
            for patient in sorted(self.of_task.get(task, ())):
                if splits.setdefault(patient, split) != split:
                    raise UserError(
                        f"images of {patient} are in the splits {splits[patient]} and {split} (by "
                        f"task '{printable(task)}'), so that scores would be of patients whom "
                        f"training saw; make the column of patients the tasks by --task-column, or "
                        f"give all tasks of a patient one split in a column split."
                    )
        return splits
