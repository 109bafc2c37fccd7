"""Patients: the secret of their pseudonyms, and the one split that each may be in.

A hash without a secret would hide nothing: whoever has a list of patients hashes them all.
"""

import hashlib
import hmac
import os
import secrets
import stat
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from metatrain.base.errors import UserError
from metatrain.base.progress import say
from metatrain.base.text import printable
from metatrain.storage.files import absolute
from metatrain.storage.local_disk import read_part, write_new

_LEAST_BYTES, _NEW_BYTES = 16, 32
# In place of a split, for a name that is a patient's only with its issuer.
BY_ISSUER = "by issuer"


class Salt:
    """The secret of pseudonyms, a file that is made where it is missing.

    Args:
        file: None: the user's own, with the state of programs; never a part of a data set.

    Raises:
        UserError: when it cannot be read or made, or is too short for a secret.
    """

    def __init__(self, file: str | None) -> None:
        path = _local(file) if file else _usual_file()
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

    def pseudonym(self, patient: str, issuer: str = "") -> str:
        """Return the pseudonym of a patient, the same wherever the secret is the same.

        Args:
            patient: the name of the patient.
            issuer: who gave the patient that name; '' where the name stands alone.
        """
        # No name has a 0 within once it is folded.
        text = f"{folded(issuer)}\0{folded(patient)}" if issuer else folded(patient)
        return f"patient-{self.digest('patient', text)}"

    def digest(self, meaning: str, text: str) -> str:
        """Return a hash of a text that cannot be guessed without the secret."""
        message = f"{meaning}/{text}".encode(errors="surrogatepass")
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()[:16]


def folded(patient: str) -> str:
    """Return a patient's name as it is compared: in any case, width and number of blanks.

    One person under two spellings could be in two splits; two under one spelling cannot.
    """
    compared = unicodedata.normalize("NFKC", patient.replace("\0", " ")).casefold()
    return " ".join(compared.split())


def refuse_salt_within(file: str | None, dest: str) -> None:
    """Refuse a secret that would be a part of the data set at `dest`, and be copied with it.

    Raises:
        UserError: when it is one.
    """
    folder = absolute(dest)
    if not file or "://" in folder:
        return
    if _local(file).resolve().is_relative_to(os.path.realpath(folder)):
        raise UserError(
            f"--patient-salt {file} lies in DEST {dest}, and whoever has both can tell the "
            f"patients; choose a file outside of it."
        )


def _local(file: str) -> Path:
    """Return the path of a file of this machine: a secret is sent nowhere."""
    path = absolute(file)
    if "://" in path:
        raise UserError(
            f"--patient-salt {file} is an address; give the path of a file of this machine."
        )
    return Path(path)


def _usual_file() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return _local(home) / "metatrain" / "patient-salt"


def _read_or_make(path: Path) -> bytes:
    """Read the secret, or make one that only the user can read."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Another process may be sooner, whose secret then counts.
        with suppress(FileExistsError):
            write_new(path, [secrets.token_bytes(_NEW_BYTES)], 0o600)
    if path.stat().st_mode & stat.S_IROTH:
        say(f"every user of this machine can read {path}, the secret of pseudonyms; chmod o= it")
    return read_part(str(path))


@dataclass(frozen=True)
class Patients:
    """The patients of a source.

    Attributes:
        mark: of the secret that made their pseudonyms.
        of_task: the pseudonyms of the people whose images a task has.
        by_issuer: the pseudonyms of names alone, of those who are told apart by issuers as well.
    """

    mark: str
    of_task: Mapping[str, frozenset[str]]
    by_issuer: frozenset[str]

    def splits(self, of_tasks: Mapping[str, str], before: Mapping[str, str]) -> dict[str, str]:
        """Return the split of every patient, and `BY_ISSUER` for each name in `by_issuer`.

        Args:
            of_tasks: the split of each task.
            before: the split of patients that the data set has already.

        Raises:
            UserError: when a patient is in two splits, or could be: a name has an issuer in one
                pack and none in another.
        """
        splits = dict(before)
        for name in sorted(self.by_issuer):
            if splits.setdefault(name, BY_ISSUER) != BY_ISSUER:
                raise _some_without_issuer(name)
        for task, split in sorted(of_tasks.items()):
            for patient in sorted(self.of_task.get(task, ())):
                if splits.setdefault(patient, split) == BY_ISSUER:
                    raise _some_without_issuer(patient)
                if splits[patient] != split:
                    raise UserError(
                        f"images of {patient} are in the splits {splits[patient]} and {split} (by "
                        f"task '{printable(task)}'), so that scores would be of patients whom "
                        f"training saw; make the column of patients the tasks by --task-column, or "
                        f"give all tasks of a patient one split in a column split."
                    )
        return splits


def _some_without_issuer(pseudonym: str) -> UserError:
    return UserError(
        f"{pseudonym} has an IssuerOfPatientID in some of the packed and the new images and none "
        f"in others, so that one patient could be in two splits; pack all of them anew as one "
        f"source, in which the PatientID alone then counts."
    )
