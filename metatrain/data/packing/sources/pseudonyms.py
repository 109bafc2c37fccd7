"""Pseudonyms in place of all that names a patient in a listing."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from metatrain.base.errors import UserError
from metatrain.base.text import counted, listed
from metatrain.data.packing.patients import Patients, Salt, folded
from metatrain.data.packing.sources.listing import MODALITY, ListedImage, Listing, Options

# The column that data sets have. Tables may spell it in other ways, the surest first.
_PATIENT, _SOURCE = "patient", "source"
_SPELLED = ("patient", "patientid", "patientname", "patientsname")


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
    named = [_Named(entry, options) for entry in listing.entries]
    if options.patient_column and not any(each.names for each in named):
        raise UserError(
            f"{url} has no patient in a column '{options.patient_column}'; name another one by "
            f"--patient-column."
        )
    if not any(each.names for each in named):
        return listing, None
    salt, columns, issuers = Salt(options.patient_salt), _Columns(named), _Issuers(named)
    hidden = [_hidden(each, salt, columns, issuers) for each in named]
    of_task: dict[str, set[str]] = {}
    for entry in hidden:
        of_task.setdefault(entry.task, set()).update([entry.patient] if entry.patient else [])
    patients = Patients(
        salt.mark,
        {task: frozenset(some) for task, some in of_task.items()},
        frozenset(map(salt.pseudonym, issuers.with_issuer)),
    )
    remarks = [*listing.remarks, *issuers.remarks, *_warning(columns.kept)]
    return replace(listing, entries=hidden, remarks=remarks), patients


class _Named:
    """An image, the texts that name its patient, the surest first, and all other metadata."""

    def __init__(self, entry: ListedImage, options: Options) -> None:
        ranks = {column: rank for column in entry.metadata if (rank := _rank(column, options))}
        texts = [entry.metadata[column] for column in sorted(ranks, key=ranks.__getitem__)]
        self.by_task = bool(options.task_column and _rank(options.task_column, options))
        texts = [*([entry.task] if self.by_task else []), *texts, entry.patient]
        self.names = [text.strip() for text in texts if text.strip()]
        self.metadata = {c: text for c, text in entry.metadata.items() if c not in ranks}
        # A column, or a task, names patients of its own accord.
        self.issuer = folded(entry.issuer) if self.names == [entry.patient.strip()] else ""
        self.entry = entry

    def is_name(self, text: str) -> bool:
        """Tell whether a text names the patient."""
        return folded(text) in map(folded, self.names)


class _Columns:
    """The meaning of tasks and columns, for a number that is a patient's may be a class's too.

    Attributes:
        by_task: whether tasks are patients.
        repeated: columns that name the patient of every image, as those of patients do.
        kept: all others.
    """

    def __init__(self, named: Sequence[_Named]) -> None:
        known = [each for each in named if each.names]
        self.by_task = all(
            each.by_task or not each.entry.task or each.is_name(each.entry.task) for each in known
        )
        self.repeated = {
            column
            for column in known[0].metadata
            if all(each.is_name(each.metadata[column]) for each in known)
        }
        self.kept = [column for column in known[0].metadata if column not in self.repeated]


class _Issuers:
    """The names of patients that count only together with their issuer.

    Where one image has the name without an issuer, its patient could be any of those who have that
    name, so that all of them are one: two patients in one task do no harm, one patient in two
    splits does.

    Attributes:
        with_issuer: names, folded, of which no image lacks the issuer.
        remarks: a sentence where some image does.
    """

    def __init__(self, named: Sequence[_Named]) -> None:
        issued = {folded(each.names[0]) for each in named if each.issuer}
        alone = {folded(each.names[0]) for each in named if each.names and not each.issuer}
        self.with_issuer = issued - alone
        joined = counted(len(issued & alone), "PatientID")
        self.remarks = [
            f"{joined} with an IssuerOfPatientID in some files and none in others: the PatientID "
            f"alone counts there"
        ] * bool(issued & alone)

    def of(self, each: _Named) -> str:
        """Return the issuer that counts for an image; '' where the name alone does."""
        return each.issuer if each.issuer and folded(each.names[0]) in self.with_issuer else ""


def _rank(column: str, options: Options) -> int:
    """Return how surely a column names patients, 1 above all others; 0 where it does not."""
    if column == options.patient_column:
        return 1
    plain = "".join(filter(str.isalnum, column.lower()))
    return _SPELLED.index(plain) + 2 if plain in _SPELLED else 0


def _warning(columns: Collection[str]) -> list[str]:
    """Return a remark on columns that may name patients too."""
    kept = [column for column in columns if column != MODALITY]
    remark = f"the data set keeps as they are: {listed(kept)}; leave out columns that name anyone"
    return [remark] if kept else []


def _hidden(each: _Named, salt: Salt, columns: _Columns, issuers: _Issuers) -> ListedImage:
    """Return the entry without a word that its source has of the patient."""
    entry = each.entry
    pseudonym = salt.pseudonym(each.names[0], issuers.of(each)) if each.names else ""
    metadata = each.metadata | dict.fromkeys(columns.repeated, pseudonym)
    if not columns.by_task:
        metadata = {_SOURCE: pseudonym} | metadata | {_PATIENT: pseudonym}
    task = pseudonym if columns.by_task and pseudonym else entry.task or pseudonym
    # Names of files are often those of patients, and a plain hash of one can be guessed.
    stamp = salt.digest("file", f"{entry.name}/{entry.stamp}")
    return entry._replace(task=task, metadata=metadata, stamp=stamp, patient=pseudonym, issuer="")
