"""The clinical table of HCC-TACE-Seg as clinical records and outcomes.

105 patients with hepatocellular carcinoma, treated with TACE at one centre in the United States.

Columns that are read are named here; no other column is looked at. Left out on purpose:

- everything known only after the start of treatment: follow-up intervals, the readers' diameters and
  categories, progression as a covariate;
- ``Tr_Size``: missing in 52 of 105, and at odds with the readers' sums of at most two diameters (1 cm
  against 95 mm in HCC_012, 20 cm against 97 mm in HCC_099);
- the stages ``CLIP``, ``Okuda``, ``TNM``, ``BCLC``: combinations of columns that are read, and of
  laboratory values the table does not give;
- ``Pathology``: 22 of 105 not stated or without biopsy; ``agegp`` and ``AFP_group``: coarser copies;
- ``chemotherapy``, smoking, alcohol and histories of cancer: no variable of ours.

What to know about the outcomes: times are in weeks. Time to progression ends without the event in 60
patients, in 38 of them within 5 months, and 53 of the 60 are known to have died: the end of follow-up for
progression is hardly independent of the course of the disease, and the curve is of progression alone.
``Interval_BL`` is negative in 23 patients, whose baseline images may be from after the first treatment:
another reason to use no measurement made on them.

References
----------
Moawad et al. 2021, TCIA, doi 10.7937/TCIA.5FNA-0924; Morshid et al. 2019, Radiol Artif Intell
1:e180021.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.case import ClinicalRecord, ClinicalValue
from inference.clinical.variables import VARIABLES
from inference.errors import ModelError
from inference.evaluation.metrics import BoolArray
from inference.results import FloatArray

MONTHS_PER_WEEK = 7.0 / 30.4375

_Value = float | str | bool


def _one(text: str) -> bool:
    return {"1": True, "0": False}[text]


def _has(*words: str) -> Callable[[str], bool]:
    known = {"No virus", "HBV only", "HCV only", "HCV and HBV"}

    def convert(text: str) -> bool:
        if text not in known:
            raise KeyError(text)
        return text in words

    return convert


COLUMNS: tuple[tuple[str, str, Callable[[str], _Value]], ...] = (
    ("age", "age", float),
    ("Sex", "sex", lambda text: {"1": "M", "2": "F"}[text]),
    ("AFP", "afp", float),
    ("CPS", "child_pugh_class", lambda text: {"A": "A", "B": "B", "C": "C"}[text]),
    # Groups 0, 1-2 and 3-4; the model knows no finer ones, so the lowest of each stands for it.
    ("PS_bclc_0_0_1-2_1_3-4_3", "ecog", lambda text: {"0": 0.0, "1": 1.0, "3": 3.0}[text]),
    # One or several; the model asks no more, so two stands for several.
    ("tumor_nodul", "tumour_number", lambda text: {"uninodular": 1.0, "multinodular": 2.0}[text]),
    ("T_involvment", "tumour_over_half_of_liver", lambda text: {"< or = 50%": False, ">50%": True}[text]),
    ("Vascular invasion", "vascular_invasion", _one),
    ("Portal Vein Thrombosis", "portal_vein_thrombosis", _one),
    ("Lymphnodes", "lymph_nodes", _one),
    ("Metastasis", "metastasis", _one),
    ("Evidence_of_cirh", "cirrhosis", _one),
    ("hepatitis", "hepatitis_b", _has("HBV only", "HCV and HBV")),
    ("hepatitis", "hepatitis_c", _has("HCV only", "HCV and HBV")),
    ("Diabetes", "diabetes", _one),
)
"""Column of the table, our variable, conversion."""

OUTCOMES: Mapping[str, tuple[str, str]] = {
    "os": ("OS", "Death_1_StillAliveorLostToFU_0"),
    "ttp": ("TTP", "Censored_0_progressed_1"),
}
"""End point: column of weeks, column of the event."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Months from the start of treatment to the event or to censoring, (n,) each."""

    months: FloatArray
    event: BoolArray


@dataclass(frozen=True, slots=True)
class Cohort:
    """Clinical records and outcomes of n patients, in the order of the table."""

    records: tuple[ClinicalRecord, ...]
    outcomes: Mapping[str, Outcome]


def read_cohort(path: Path) -> Cohort:
    """Read the table.

    Raises
    ------
    ModelError
        A column is missing, or a value is not one of those that the data set documents.
    """
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    try:
        return Cohort(
            records=tuple(_record(row) for row in rows),
            outcomes={name: _outcome(rows, *columns) for name, columns in OUTCOMES.items()},
        )
    except (KeyError, ValueError) as error:
        raise ModelError("the table is not the clinical table of HCC-TACE-Seg, version 2") from error


def _record(row: Mapping[str, str]) -> ClinicalRecord:
    values = {}
    for column, name, convert in COLUMNS:
        text = row[column].strip()
        if text:
            values[name] = ClinicalValue(name, convert(text), VARIABLES[name].unit)
    return ClinicalRecord(values)


def _outcome(rows: list[dict[str, str]], weeks: str, event: str) -> Outcome:
    months = np.array([float(row[weeks]) for row in rows]) * MONTHS_PER_WEEK
    return Outcome(months, np.array([_one(row[event].strip()) for row in rows]))
