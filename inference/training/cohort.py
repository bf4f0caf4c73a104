"""A prepared cohort: what imaging models are trained on and measured with, on disk.

Simulated patients and a site's own patients come in the same form, so that every model has one way
in. A cohort is a folder:

    cohort.json           `CohortInfo`
    patients.csv          one row a patient: patient_id, centre, split, clinical variables, survival
    outcomes.csv          one row a patient, regimen and month: volumes and response (`OUTCOME_COLUMNS`)
    images/PATIENT.npz    baseline and follow-ups as crops (`PatientImages`)

It may also hold ``split.csv`` (patient_id, split), a division that replaces that of ``patients.csv``, see
`inference.training.cohort_split`; and laboratory values over time, and texts and angiographies as vectors,
see `inference.training.cohort_evidence`.

Crops are isotropic and liver-centred, in the order (z, y, x) with z towards the head, y towards the
back and x towards the patient's left.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from inference.errors import TrainingDataError
from inference.results import Labels
from inference.settings import Frozen

SPACING_MM = 2.25
"""Voxel size of a crop along each axis."""
CROP = (96, 96, 96)
"""Voxels of a crop, (z, y, x): 216 mm a side."""
BESIDE = ("laboratory.csv", "texts.npz", "angiographies.npz")
"""Files that a cohort may hold beside its tables and images."""
SPLIT_FILE = "split.csv"
EXTERNAL = "external"
"""Beginning of the splits of patients from centres that no training sees."""
NO_VALUE = -32768
"""Stored where a phase was not acquired, or a voxel lies outside the scan."""

HalfPrecision = npt.NDArray[np.int16]


class Origin(StrEnum):
    """Where the patients come from; goes into ``trained_on`` of a bundle."""

    SIMULATED = "simulated"
    IMPLANTED = "simulated disease in real anatomy"
    REAL = "real"


class Split(StrEnum):
    """What a patient may be used for."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class CohortInfo(Frozen):
    """What a cohort is. `sha256` is over the tables and images, as `cohort_digest` gives it."""

    name: str
    origin: Origin
    modality: str = Field(pattern="^(CT|MR)$")
    phases: tuple[str, ...] = Field(description="values of Phase, in the order of the image channels")
    spacing_mm: float = SPACING_MM
    patients: int = Field(gt=0)
    seed: int | None = None
    note: str = ""
    sha256: str = ""


OUTCOME_COLUMNS: Mapping[str, str] = {
    "patient_id": "pseudonym",
    "regimen_id": "id of a regimen",
    "months": "after the start of treatment",
    "observed": "1 for the treatment that the patient had, 0 for a counterfactual (simulated patients only)",
    "imaged": "1 when images/PATIENT.npz holds this follow-up",
    "viable_ml": "viable tumour",
    "necrosis_ml": "dead tumour that is neither resorbed nor covered with lipiodol",
    "lipiodol_ml": "tumour that reads as lipiodol on CT",
    "new_lesions": "number of lesions that were not there at baseline",
    "recist11": "CR, PR, SD, PD or NE by RECIST 1.1",
    "mrecist": "CR, PR, SD, PD or NE by mRECIST",
}
"""Columns of ``outcomes.csv``; one row for each patient, regimen and month, months 0 excluded."""

PATIENT_COLUMNS: Mapping[str, str] = {
    "patient_id": "pseudonym",
    "centre": "source cohort of a simulated patient, hospital of a real one",
    "split": "train, validation or test",
    "regimen_id": "the treatment that the patient had",
    "baseline_viable_ml": "viable tumour at baseline",
    "baseline_total_ml": "tumour at baseline",
    "liver_ml": "liver with tumours",
    "os_months": "time to death or last contact",
    "os_event": "1 for death",
    "pfs_months": "time to progression, death or last assessment",
    "pfs_event": "1 for progression or death",
}
"""Columns of ``patients.csv``; clinical variables follow, named as in `inference.clinical.variables`,
an empty cell being a missing value. Columns that begin with ``latent_`` are simulation truth and never
inputs of a model."""


@dataclass(frozen=True, slots=True)
class FollowUpImages:
    """One imaged follow-up, registered to the baseline.

    Attributes
    ----------
    images : array of int16, (phase, z, y, x)
        HU in CT; in MR intensity times 1000 over the median of the baseline's liver. Noise-free for
        simulated patients. `NO_VALUE` where nothing was acquired.
    fractions : array of uint8, (3, z, y, x)
        Viable tumour, dead tumour and lipiodol as shares of the voxel, 0 to 255 for 0 to 1.
    lesion : array of uint8, (z, y, x)
        0, or the number of the lesion; numbers above those of the baseline are new lesions.
    """

    regimen_id: str
    months: float
    images: HalfPrecision
    fractions: Labels
    lesion: Labels


@dataclass(frozen=True, slots=True)
class PatientImages:
    """Images of one patient; arrays as in `FollowUpImages`.

    Attributes
    ----------
    images : as acquired, with noise
    clean : array of int16, (phase, z, y, x), or None
        The baseline without noise (simulated patients): a follow-up less this is the change.
    liver : array of uint8, (z, y, x)
        Share of the voxel that is liver, tumours and vessels included, 0 to 255.
    """

    patient_id: str
    images: HalfPrecision
    clean: HalfPrecision | None
    liver: Labels
    fractions: Labels
    lesion: Labels
    follow_ups: tuple[FollowUpImages, ...]


def write_images(folder: Path, patient: PatientImages) -> Path:
    """Write one patient's images; the same arrays give the same bytes."""
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "images": patient.images,
        "liver": patient.liver,
        "fractions": patient.fractions,
        "lesion": patient.lesion,
    }
    if patient.clean is not None:
        arrays["clean"] = patient.clean
    for index, seen in enumerate(patient.follow_ups):
        # The change is zero almost everywhere, and a file of it is a tenth of the size.
        base = patient.images if patient.clean is None else patient.clean
        arrays[f"{index}/change"] = (seen.images.astype(np.int32) - base).astype(np.int32)
        arrays[f"{index}/fractions"] = seen.fractions
        arrays[f"{index}/lesion"] = seen.lesion
    times = [{"regimen_id": f.regimen_id, "months": f.months} for f in patient.follow_ups]
    path = folder / "images" / f"{patient.patient_id}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    with zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, np.ascontiguousarray(array), allow_pickle=False)
            _store(archive, f"{name}.npy", data.getvalue())
        _store(archive, "follow_ups.json", json.dumps(times).encode())
    temporary.replace(path)
    return path


def _store(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, data, compresslevel=1)


@dataclass(frozen=True, slots=True)
class Cohort:
    """A cohort that was opened; images are read one patient at a time.

    Attributes
    ----------
    left_out : str
        Part of the training patients that is hidden, see `inference.training.cohort_split.leaving_out`;
        empty: none.
    """

    folder: Path
    info: CohortInfo
    patients: pd.DataFrame
    outcomes: pd.DataFrame
    left_out: str = ""

    @classmethod
    def open(cls, folder: Path) -> Cohort:
        """Read the tables of a cohort.

        Raises
        ------
        TrainingDataError
            A table is absent, or a column of it.
        """
        try:
            info = CohortInfo.model_validate_json((folder / "cohort.json").read_text(encoding="utf-8"))
            patients = pd.read_csv(folder / "patients.csv", dtype={"patient_id": str})
            outcomes = pd.read_csv(folder / "outcomes.csv", dtype={"patient_id": str})
        except (OSError, ValueError) as error:
            raise TrainingDataError(f"{folder.name} is not a cohort that can be read: {error}") from error
        for table, columns, name in (
            (patients, PATIENT_COLUMNS, "patients.csv"),
            (outcomes, OUTCOME_COLUMNS, "outcomes.csv"),
        ):
            missing = [c for c in columns if c not in table.columns]
            if missing:
                raise TrainingDataError(f"{name} of the cohort lacks the columns {', '.join(missing)}")
        return cls(folder, info, _divided(folder, patients), outcomes)

    def ids(self, *splits: Split) -> tuple[str, ...]:
        """Return the patients of some splits, in the order of the table."""
        chosen = self.patients[self.patients["split"].isin([str(s) for s in splits])]
        return tuple(cast("list[str]", chosen["patient_id"].tolist()))

    def row(self, patient_id: str) -> Mapping[str, Any]:
        """Return a patient's columns of patients.csv by their names."""
        row = self.patients.loc[self.patients["patient_id"] == patient_id].iloc[0]
        return {str(column): value for column, value in row.items()}

    def images(self, patient_id: str) -> PatientImages:
        """Read the images of one patient.

        Raises
        ------
        TrainingDataError
            There are none, or the file is damaged.
        """
        path = self.folder / "images" / f"{patient_id}.npz"
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                times = json.loads(bytes(stored["follow_ups.json"]))
                clean = stored["clean"] if "clean" in stored else None
                images = stored["images"]
                base = (images if clean is None else clean).astype(np.int32)
                follow_ups = tuple(
                    FollowUpImages(
                        str(t["regimen_id"]),
                        float(t["months"]),
                        (base + stored[f"{i}/change"]).astype(np.int16),
                        stored[f"{i}/fractions"],
                        stored[f"{i}/lesion"],
                    )
                    for i, t in enumerate(times)
                )
                return PatientImages(
                    patient_id,
                    images,
                    clean,
                    stored["liver"],
                    stored["fractions"],
                    stored["lesion"],
                    follow_ups,
                )
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise TrainingDataError("the images of a patient of the cohort cannot be read") from error


def _divided(folder: Path, patients: pd.DataFrame) -> pd.DataFrame:
    """Return the patients with the splits of ``split.csv``, where there is one."""
    path = folder / SPLIT_FILE
    if not path.is_file():
        return patients
    try:
        table = pd.read_csv(path, dtype=str).set_index("patient_id")["split"]
    except (OSError, ValueError, KeyError) as error:
        raise TrainingDataError(f"{SPLIT_FILE} of the cohort cannot be read") from error
    if table.index.has_duplicates or set(table.index) != set(patients["patient_id"]):
        raise TrainingDataError(f"{SPLIT_FILE} of the cohort does not name every patient once")
    return patients.assign(split=patients["patient_id"].map(table))


def write_tables(folder: Path, info: CohortInfo, patients: pd.DataFrame, outcomes: pd.DataFrame) -> Cohort:
    """Write the tables of a cohort whose images are there, and seal it with its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    patients.to_csv(folder / "patients.csv", index=False, lineterminator="\n")
    outcomes.to_csv(folder / "outcomes.csv", index=False, lineterminator="\n")
    return sealed(folder, info)


def sealed(folder: Path, info: CohortInfo) -> Cohort:
    """Write the digest of a cohort's present files into its information, and return the cohort."""
    named = info.model_copy(update={"sha256": cohort_digest(folder)})
    (folder / "cohort.json").write_text(named.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return Cohort.open(folder)


def cohort_digest(folder: Path) -> str:
    """Return the SHA-256 over the tables and the images of a cohort, and over other evidence it has."""
    total = hashlib.sha256()
    files = [folder / "patients.csv", folder / "outcomes.csv", *sorted((folder / "images").glob("*.npz"))]
    files += [path for path in (folder / name for name in (*BESIDE, SPLIT_FILE)) if path.is_file()]
    for path in files:
        total.update(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()
