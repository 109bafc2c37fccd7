"""A patient is one task in one split, and nothing that names one enters a data set."""

import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from medical_files import dicom, dicom_dataset, encoded, nifti
from PIL import Image
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset

from metatrain.base.errors import UserError
from metatrain.cli.main import main
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packing import patients
from metatrain.data.packing.pack import pack
from metatrain.data.packing.patients import Salt

SECRET = "Zaphod"
WINDOW = {"WindowCenter": "2048", "WindowWidth": "4096"}
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "metatrain" / "patient-salt"


def pixels(side: int = 16) -> np.ndarray:
    return RNG.integers(0, 4096, (side, side), dtype=np.uint16)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (16, 16), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def scans(folder: Path, patients: int = 10, images: int = 3) -> Path:
    """Write DICOM files of several patients side by side, as scanners do."""
    folder.mkdir()
    for i in range(patients * images):
        (folder / f"IM{i:04}").write_bytes(dicom(pixels(), f"MRN-{i % patients}", **WINDOW))
    return folder


def tasks_of(dest: Path) -> dict[str, str]:
    store = EpisodeStore(str(dest))
    return {t.name: split for split in ("train", "val", "test") for t in store.tasks(split)}


def rows_of(dest: Path) -> list[dict]:
    return [row for f in sorted(dest.glob("*.parquet")) if f.name != "manifest.parquet"
            for row in pq.read_table(f).to_pylist()]  # fmt: skip


def written(dest: Path) -> bytes:
    """Return all that a data set says: its bytes, and its tables without their compression."""
    files = [path for path in dest.rglob("*") if path.is_file()]
    tables = [pq.read_table(f) for f in files if f.suffix == ".parquet"]
    texts = [repr(table.to_pylist()) + repr(table.schema.metadata) for table in tables]
    names = "".join(str(path.relative_to(dest)) for path in files)
    return b"".join(path.read_bytes() for path in files) + "".join([*texts, names]).encode()


def planted() -> Dataset:
    """Make a DICOM data set with the secret in every tag of text, and in what tags are not."""
    dataset = dicom_dataset(pixels(), f"{SECRET}-id")
    kept = {"PhotometricInterpretation", "SpecificCharacterSet", "PatientID"}
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        texts = ("LO", "LT", "PN", "SH", "ST", "UT", "UC", "CS", "AE")
        if vr in texts and tag >> 16 > 7 and keyword and keyword not in kept:
            dataset.add_new(tag, vr, SECRET.upper() if vr == "CS" else SECRET)
    dataset.PatientBirthDate = "19520311"
    private = dataset.private_block(0x0011, SECRET, create=True)
    private.add_new(1, "LO", SECRET)
    dataset.add_new(0x60003000, "OW", SECRET.encode() * 2)
    dataset.add_new(0x60004000, "LT", SECRET)
    person = Dataset()
    person.PersonName = SECRET
    dataset.ReferencedPatientSequence = [person]
    return dataset


def test_no_byte_of_a_data_set_names_a_patient(tmp_path):
    folder = tmp_path / f"{SECRET}s"
    folder.mkdir()
    dataset = planted()
    for i in range(4):
        dataset.PatientID, dataset.PixelData = f"{SECRET}-{i % 2}", pixels().tobytes()
        (folder / f"{SECRET}-{i}.dcm").write_bytes(encoded(dataset))
    plain = (folder / f"{SECRET}-0.dcm").read_bytes().lower()
    assert plain.count(SECRET.lower().encode()) > 500
    summary = pack(folder, tmp_path / "data", size=16)
    assert summary.images == 4 and sum(summary.tasks.values()) == 2
    everything = written(tmp_path / "data").lower()
    assert b"patient-" in everything
    for name in (SECRET, "19520311"):
        assert name.lower().encode() not in everything


def test_a_table_hides_its_patients_and_the_names_of_files(tmp_path):
    table = ["path,task,patient,scanner"]
    for i in range(8):
        (tmp_path / f"{SECRET}{i}.png").write_bytes(png())
        table.append(f"{SECRET}{i}.png,class{i % 4},{SECRET} {i % 4},acme")
    (tmp_path / "all.csv").write_text("\n".join(table))
    pack(tmp_path / "all.csv", tmp_path / "data")
    assert SECRET.lower().encode() not in written(tmp_path / "data").lower()
    rows = rows_of(tmp_path / "data")
    assert {row["scanner"] for row in rows} == {"acme"}
    assert all(row["patient"] == row["source"] != "" for row in rows)
    assert len({row["patient"] for row in rows}) == 4


def test_files_of_a_patient_are_one_task_and_splits_are_by_patient(tmp_path, state):
    folder = scans(tmp_path / "scans")
    summary = pack(folder, tmp_path / "data")
    assert summary.tasks == {"train": 6, "val": 2, "test": 2} and summary.images == 30
    assert {row["modality"] for row in rows_of(tmp_path / "data")} == {"CT"}
    assert state.stat().st_mode & 0o777 == 0o600
    again = pack(folder, tmp_path / "again")
    assert tasks_of(tmp_path / "again") == tasks_of(tmp_path / "data")
    assert again.images == summary.images
    pack(folder, tmp_path / "other", patient_salt=tmp_path / "salt")
    assert not tasks_of(tmp_path / "other").keys() & tasks_of(tmp_path / "data").keys()


def test_new_images_of_a_patient_go_to_the_patient(tmp_path):
    folder = scans(tmp_path / "scans", 6)
    pack(folder, tmp_path / "data")
    before = tasks_of(tmp_path / "data")
    (folder / "IM9999").write_bytes(dicom(pixels(), "MRN-0", **WINDOW))
    assert pack(folder, tmp_path / "data").images == 19
    assert tasks_of(tmp_path / "data") == before
    with pytest.raises(UserError, match="other options"):
        pack(folder, tmp_path / "data", patient_salt=tmp_path / "another")


def issued(folder: Path, *files: tuple[str, str, str]) -> Path:
    """Write a DICOM file for each name, PatientID and issuer; without the tag where it is ''."""
    folder.mkdir(exist_ok=True)
    for name, patient, issuer in files:
        tags = WINDOW | ({"IssuerOfPatientID": issuer} if issuer else {})
        (folder / name).write_bytes(dicom(pixels(), patient, **tags))
    return folder


def test_one_number_of_two_hospitals_is_two_patients(tmp_path):
    a, b = ("1.dcm", "7", "North"), ("2.dcm", "7", "South")
    pack(issued(tmp_path / "both", a, b, ("3.dcm", " 7", "NORTH ")), tmp_path / "data")
    tasks = [row["task"] for row in rows_of(tmp_path / "data")]
    assert sorted(map(tasks.count, set(tasks))) == [1, 2]
    everything = written(tmp_path / "data").lower()
    assert b"north" not in everything and b"south" not in everything
    # A further image of either goes to its own task.
    issued(tmp_path / "both", ("4.dcm", "7", "South"))
    pack(tmp_path / "both", tmp_path / "data")
    assert len(tasks_of(tmp_path / "data")) == 2


def test_a_file_without_an_issuer_makes_one_patient_of_all_of_its_number(tmp_path, caplog):
    folder = issued(tmp_path / "all", ("1.dcm", "7", "North"), ("2.dcm", "7", "South"))
    issued(folder, ("3.dcm", "7", ""), ("4.dcm", "8", "North"), ("5.dcm", "9", ""))
    pack(folder, tmp_path / "data")
    tasks = [row["task"] for row in rows_of(tmp_path / "data")]
    assert sorted(map(tasks.count, set(tasks))) == [1, 1, 3]
    assert "1 PatientID with an IssuerOfPatientID in some files and none in others" in caplog.text


@pytest.mark.parametrize("first", ["North", ""])
def test_a_later_file_with_or_without_the_issuer_is_refused(tmp_path, first):
    second = "" if first else "North"
    pack(issued(tmp_path / "a", ("1.dcm", "7", first), ("2.dcm", "8", "")), tmp_path / "data")
    before = tasks_of(tmp_path / "data")
    with pytest.raises(UserError, match="IssuerOfPatientID in some of the packed"):
        pack(issued(tmp_path / "b", ("3.dcm", "7", second)), tmp_path / "data")
    assert tasks_of(tmp_path / "data") == before


def test_a_table_that_names_patients_needs_no_issuer(tmp_path):
    issued(tmp_path, ("a.dcm", "7", "North"), ("b.dcm", "7", "South"))
    (tmp_path / "all.csv").write_text("path,patient\na.dcm,x\nb.dcm,x\n")
    pack(tmp_path / "all.csv", tmp_path / "data", task_column="patient")
    assert len(tasks_of(tmp_path / "data")) == 1


def test_a_patient_in_two_splits_is_refused(tmp_path):
    for name, patient in (("a", "p"), ("b", "q"), ("c", "p")):
        (tmp_path / f"{name}.png").write_bytes(png())
        with (tmp_path / "rows").open("a") as file:
            file.write(f"{name}.png,{name},{patient},{'test' if name == 'c' else 'train'}\n")
    (tmp_path / "all.csv").write_text(
        "path,task,Patient_ID,split\n" + (tmp_path / "rows").read_text()
    )
    with pytest.raises(UserError, match=r"in the splits train and test \(by task 'c'\)"):
        pack(tmp_path / "all.csv", tmp_path / "data")
    assert not list((tmp_path / "data").glob("*.parquet"))
    (tmp_path / "by.csv").write_text("path,Patient_ID\na.png,p\nb.png,q\nc.png,p\n")
    pack(tmp_path / "by.csv", tmp_path / "one", task_column="Patient_ID")
    assert len(tasks_of(tmp_path / "one")) == 2


def test_a_patient_who_is_packed_keeps_the_split_with_further_tasks(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png())
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text("path,task,patient,split\na.png,a,p,train\n")
    second.write_text("path,task,patient,split\nb.png,b,p,test\n")
    pack(first, tmp_path / "data")
    with pytest.raises(UserError, match="in the splits train and test"):
        pack(second, tmp_path / "data")


def test_a_table_of_dicom_files_has_the_patients_of_their_headers(tmp_path):
    rows = ["path,task,split"]
    for i, split in enumerate(("train", "test")):
        (tmp_path / f"{i}.dcm").write_bytes(dicom(pixels(), "MRN-7"))
        rows.append(f"{i}.dcm,{'benign' if i else 'malign'},{split}")
    (tmp_path / "all.csv").write_text("\n".join(rows))
    with pytest.raises(UserError, match="in the splits"):
        pack(tmp_path / "all.csv", tmp_path / "data")


@pytest.mark.parametrize("other", ["p1", " P1  ", "\uff301", "P1\0"], ids=ascii)
def test_a_patient_is_one_under_every_spelling(tmp_path, other):
    salt = Salt(str(tmp_path / "salt"))
    assert salt.pseudonym("P1") == salt.pseudonym(other) != salt.pseudonym("P 1")
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png())
    table = ["path,task,patient,split", "a.png,a,P1,train", f"b.png,b,{other},test"]
    (tmp_path / "all.csv").write_text("\n".join(table))
    with pytest.raises(UserError, match="in the splits"):
        pack(tmp_path / "all.csv", tmp_path / "data")


@pytest.mark.parametrize(
    "columns",
    ["task,patient", "task,Patient's Name", "task,patient_id,PatientName", "task,patient,subject",
     "task,patient,source", "mrn,patient"],
)  # fmt: skip
def test_a_patient_has_no_name_under_any_column(tmp_path, caplog, columns):
    rows = [f"path,{columns},scanner"]
    for i in range(6):
        (tmp_path / f"{i}.png").write_bytes(png())
        name = f"{SECRET}{i % 3}"
        values = [name, f"{name.upper()} ", name.lower()][: columns.count(",") + 1]
        rows.append(",".join([f"{i}.png", *values, "acme"]))
    (tmp_path / "all.csv").write_text("\n".join(rows))
    task = columns.partition(",")[0]
    pack(tmp_path / "all.csv", tmp_path / "data", task_column=task)
    assert SECRET.lower().encode() not in written(tmp_path / "data").lower()
    assert len(tasks_of(tmp_path / "data")) == 3
    assert {row["scanner"] for row in rows_of(tmp_path / "data")} == {"acme"}
    assert "keeps as they are: " in caplog.text


def test_a_class_of_the_number_of_a_patient_stays_a_class(tmp_path):
    rows = ["path,task,patient,view,split"]
    for i in range(8):
        (tmp_path / f"{i}.png").write_bytes(png())
        rows.append(f"{i}.png,{i % 2},{i % 4},{i // 4},train")
    (tmp_path / "all.csv").write_text("\n".join(rows))
    pack(tmp_path / "all.csv", tmp_path / "data")
    assert tasks_of(tmp_path / "data").keys() == {"0", "1"}
    assert {row["view"] for row in rows_of(tmp_path / "data")} == {"0", "1"}


def test_the_column_that_is_named_names_patients(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png())
    table = "path,task,patient,mrn,split\na.png,a,ward,1,train\nb.png,b,ward,2,test\n"
    (tmp_path / "all.csv").write_text(table)
    pack(tmp_path / "all.csv", tmp_path / "data", patient_column="mrn")
    assert len({row["patient"] for row in rows_of(tmp_path / "data")}) == 2


def volumes(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(nifti(RNG.integers(0, 1000, (9, 9, 3)).astype(np.int16)))
    return folder


def test_a_subject_of_volumes_in_the_folders_of_two_splits_is_refused(tmp_path):
    folder = volumes(tmp_path / "scans", "train/p1/a.nii", "test/p1/b.nii", "test/p2/a.nii")
    (folder / "LICENSE").write_text("free")
    with pytest.raises(
        UserError, match=r"in two splits \(by 'test/p1/b.nii.*' and 'train/p1/a.nii"
    ):
        pack(folder, tmp_path / "data")
    (folder / "test/p1/b.nii").unlink()
    pack(folder, tmp_path / "data")
    assert sorted(tasks_of(tmp_path / "data").values()) == ["test", "train"]


def test_visits_of_a_subject_are_no_subjects(tmp_path):
    folder = volumes(tmp_path / "scans", "p1/2020/a.nii", "p1/2021/a.nii", "p2/2020/a.nii")
    with pytest.raises(UserError, match="Give --task-depth 1 if 'p1' is a task"):
        pack(folder, tmp_path / "data")
    pack(folder, tmp_path / "data", task_depth=1)
    assert len(tasks_of(tmp_path / "data")) == 2
    assert len(tasks_of(tmp_path / "data")) == len(
        {row["task"] for row in rows_of(tmp_path / "data")}
    )


def test_frames_and_slices_are_images(tmp_path):
    folder = tmp_path / "scans"
    (folder / "sub-01/anat").mkdir(parents=True)
    (folder / "sub-02").mkdir()
    volume = RNG.integers(0, 1000, (16, 18, 5)).astype(np.int16)
    (folder / "sub-01/anat/sub-01_T1w.nii").write_bytes(nifti(volume))
    (folder / "sub-02/sub-02_T1w.nii").write_bytes(nifti(volume[:, :, :3]))
    (folder / "many.dcm").write_bytes(dicom(np.stack([pixels() for _ in range(4)]), "MRN-1"))
    summary = pack(folder, tmp_path / "data")
    assert summary.images == 5 + 3 + 4 and len(tasks_of(tmp_path / "data")) == 3
    assert b"sub-0" not in written(tmp_path / "data")
    summary = pack(folder, tmp_path / "side", slice_axis="sagittal")
    assert summary.images == 16 + 16 + 4


def test_refusals_and_warnings_are_a_sentence_with_the_file(tmp_path, capsys, monkeypatch):
    folder = scans(tmp_path / "scans", 4)
    (folder / "nobody.dcm").write_bytes(dicom(pixels(), ""))
    (folder / "cut.dcm").write_bytes(dicom(pixels(), "MRN-1")[:-100])
    (folder / "notes.txt").write_text("of MRN-1")
    (folder / "us.dcm").write_bytes(
        encoded(dicom_dataset(pixels(), "MRN-2", Modality="US", BurnedInAnnotation=""))
    )
    (folder / "marked.dcm").write_bytes(dicom(pixels(), "MRN-3", BurnedInAnnotation="YES"))
    monkeypatch.setattr(sys, "argv", ["metatrain", "pack", str(folder), str(tmp_path / "data")])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 0
    output = "".join(capsys.readouterr())
    assert "refused 'nobody.dcm': names no patient" in output
    assert "refused 'cut.dcm': corrupt or truncated" in output
    assert "1 refused: neither DICOM nor NIfTI" in output
    assert "1 file says that its pixels show text (BurnedInAnnotation), such as 'marked.dcm'" in (
        output
    )
    assert "such as 'us.dcm'" in output
    assert "MRN" not in output


def test_a_range_is_in_the_units_of_the_modality(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    values = np.linspace(0, 2000, 256).astype(np.uint16).reshape(16, 16)
    tags = {"RescaleSlope": "1", "RescaleIntercept": "-1000", "WindowCenter": "0"}
    (folder / "a.dcm").write_bytes(dicom(values, "MRN-1", WindowWidth="10", **tags))
    pack(folder, tmp_path / "data", value_range=(-500.0, 500.0))
    image = np.asarray(Image.open(io.BytesIO(rows_of(tmp_path / "data")[0]["image"])))
    expected = ((values.astype(float) - 1000).clip(-500, 500) + 500) / 1000 * 255
    assert np.abs(image - expected).max() <= 0.5


@pytest.mark.parametrize(
    ("salt", "reason"),
    [
        ("short", "too few for a secret"),
        ("scans", "cannot be read"),
        ("data/salt", "lies in DEST"),
        ("data/../data/salt", "lies in DEST"),
        ("s3://bucket/salt", "is an address"),
    ],
    ids=["short", "folder", "within", "around", "address"],
)
def test_a_secret_that_is_none_is_refused(tmp_path, salt, reason):
    (tmp_path / "short").write_bytes(b"abc")
    folder = scans(tmp_path / "scans", 2, 1)
    with pytest.raises(UserError, match=reason):
        pack(folder, tmp_path / "data", patient_salt=salt if ":" in salt else f"{tmp_path}/{salt}")
    assert not [*tmp_path.rglob("salt")]


def test_a_secret_is_whole_from_its_first_moment(tmp_path, monkeypatch, caplog):
    file = tmp_path / "new" / "salt"

    def made(count: int) -> bytes:
        assert not file.exists()
        return b"x" * count

    monkeypatch.setattr(patients.secrets, "token_bytes", made)
    mask = os.umask(0)
    try:
        Salt(str(file))
    finally:
        os.umask(mask)
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    assert len(file.read_bytes()) == 32 and not caplog.text
    file.chmod(0o644)
    Salt(str(file))
    assert "can read" in caplog.text


def test_a_data_set_without_patients_asks_for_no_secret(tmp_path, state):
    (tmp_path / "images/a").mkdir(parents=True)
    (tmp_path / "images/a/0.png").write_bytes(png())
    pack(tmp_path / "images", tmp_path / "data")
    assert not state.exists()
    note = pq.read_schema(tmp_path / "data/manifest.parquet").metadata
    assert b"patients" not in json.dumps({str(k): str(v) for k, v in note.items()}).encode()


def test_a_volume_beside_pictures_is_passed_over(tmp_path):
    folder = tmp_path / "images"
    (folder / "a").mkdir(parents=True)
    for i in range(3):
        (folder / f"a/{i}.png").write_bytes(png())
    (folder / "a/mask.nii").write_bytes(nifti(np.zeros((4, 4, 4), np.int16)))
    assert pack(folder, tmp_path / "data").images == 3
    assert tasks_of(tmp_path / "data").keys() == {"a"}
