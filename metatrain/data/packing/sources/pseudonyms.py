"""Pseudonyms in place of all that names a patient in a listing."""

from collections.abc import Mapping
from dataclasses import replace

from metatrain.base.errors import UserError
from metatrain.data.packing.patients import Patients, Salt
from metatrain.data.packing.sources.listing import ListedImage, Listing, Options

# The column that data sets have. Tables may spell it in other ways.
_PATIENT, _SOURCE = "patient", "source"
_SPELLED = ("patient", "patientid")


def with_pseudonyms(
    listing: Listing, options: Options, url: str
) -> tuple[Listing, Patients | None]:
    """Replace the patients of a listing, whose tasks they are or who are in a column.

    A task of a patient is named by the pseudonym. Tasks that are anything else get the column
    `patient`, and `source` unless there is one, so that no episode has a patient's images in its
    support and among its queries, where that can be.

    Returns:
        The listing, unchanged where there are no patients, and the patients.

    Raises:
        UserError: when the column is missing, or the secret cannot be read.
    """
    entries = [_with_patient(entry, options) for entry in listing.entries]
    if options.patient_column and not any(entry.patient for entry in entries):
        raise UserError(
            f"{url} has no patient in a column '{options.patient_column}'; name another one by "
            f"--patient-column."
        )
    if not any(entry.patient for entry in entries):
        return listing, None
    salt = Salt(options.patient_salt)
    as_tasks = all(not entry.task for entry in entries if entry.patient)
    hidden = [_hidden(entry, salt, as_tasks) for entry in entries]
    of_task: dict[str, set[str]] = {}
    for entry in hidden:
        of_task.setdefault(entry.task, set()).update([entry.patient] if entry.patient else [])
    patients = Patients(salt.mark, {task: frozenset(some) for task, some in of_task.items()})
    return replace(listing, entries=hidden), patients


def _with_patient(entry: ListedImage, options: Options) -> ListedImage:
    """Take the patient out of the metadata, or the task that is one."""
    if options.task_column and _names_patients(options.task_column, options):
        return entry._replace(patient=entry.task.strip(), task="")
    columns = [column for column in entry.metadata if _names_patients(column, options)]
    if not columns:
        return entry
    named = next((entry.metadata[column] for column in columns if entry.metadata[column]), "")
    metadata = {k: v for k, v in entry.metadata.items() if k not in columns}
    return entry._replace(patient=named.strip() or entry.patient, metadata=metadata)


def _names_patients(column: str, options: Options) -> bool:
    plain = column.lower().replace("_", "").replace(" ", "")
    return column == options.patient_column or plain in _SPELLED


def _hidden(entry: ListedImage, salt: Salt, as_tasks: bool) -> ListedImage:
    """Return the entry without a word that its source has of the patient."""
    pseudonym = salt.pseudonym(entry.patient) if entry.patient else ""
    metadata: Mapping[str, str] = entry.metadata
    if not as_tasks:
        metadata = {_SOURCE: pseudonym} | dict(metadata) | {_PATIENT: pseudonym}
    # Names of files are often those of patients, and a plain hash of one can be guessed.
    stamp = salt.digest("file", f"{entry.name}/{entry.stamp}")
    return entry._replace(
        task=entry.task or pseudonym, metadata=metadata, stamp=stamp, patient=pseudonym
    )
