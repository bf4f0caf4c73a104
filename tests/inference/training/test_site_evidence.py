"""From a site's laboratory values, reports and angiographies to a cohort's evidence, without the future."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inference.case import ClinicalRecord
from inference.clinical.text_encoder import HashedNgrams, scrubbed
from inference.errors import TrainingDataError
from inference.models.angiography import ENCODER
from inference.training.site_archive import DAYS_PER_MONTH, ArchiveStudy, MatchedPatient, MatchedStudy
from inference.training.site_evidence import EvidenceOrder, collect_evidence
from inference.training.site_table import PatientRows, Role, StudyRow
from tests.builders.angiographies import run, write_run
from tests.builders.reports import Person, said, structured_report, written

START = dt.date(2026, 1, 20)
STUDY_DAY = dt.date(2026, 1, 15)
PERSON = Person(study_date="20260115")
KEY = ("", PERSON.patient_id)
ENCODE = "hashed n-grams"


def patient(*files: Path) -> MatchedPatient:
    rows = PatientRows(KEY, (), START, "tace", "A", ClinicalRecord(), None, None)
    study = ArchiveStudy(PERSON.study, frozenset([KEY]), frozenset(["20260115"]), files)
    months = (STUDY_DAY - START).days / DAYS_PER_MONTH
    matched = MatchedStudy(StudyRow(2, PERSON.study, None, None, False), study, Role.BASELINE, months)
    return MatchedPatient(rows, KEY, matched, (), ())


def collected(order: EvidenceOrder, *files: Path):
    return collect_evidence([("P1", patient(*files))], order, lambda *_: None)


def laboratory(folder: Path, *rows: str) -> Path:
    path = folder / "laboratory.csv"
    path.write_text("\n".join(["patient_id,date,variable,value", *rows]) + "\n", encoding="utf-8")
    return path


def test_laboratory_values_end_on_the_day_of_the_baseline_study(tmp_path: Path) -> None:
    rows = [
        f"{PERSON.patient_id},2025-12-16,albumin [g/L],38",
        f"{PERSON.patient_id},2026-01-15,albumin [g/L],36",
        f"{PERSON.patient_id},2026-01-16,albumin [g/L],30",
        f"{PERSON.patient_id},2026-03-01,albumin [g/L],22",
        "OTHER-1,2026-01-10,albumin [g/L],40",
    ]
    found = collected(EvidenceOrder(laboratory=laboratory(tmp_path, *rows)))
    assert [(v.days, v.value) for v in found.dated["P1"]] == [(-30, 38.0), (0, 36.0)]
    assert set(found.dated) == {"P1"}


def test_a_wrong_row_is_named_and_nobody_else(tmp_path: Path) -> None:
    path = laboratory(tmp_path, f"{PERSON.patient_id},2025-13-16,albumin [g/L],38")
    with pytest.raises(TrainingDataError, match="row 2") as refused:
        collected(EvidenceOrder(laboratory=path))
    assert PERSON.patient_id not in str(refused.value)


def test_reports_of_the_study_from_before_the_treatment_become_vectors_without_names(tmp_path: Path) -> None:
    words = "Portal thrombus of the right branch. Seen by DOE."
    early = written(structured_report([said(words)], PERSON, content_date="20260119"), tmp_path / "early.dcm")
    late = written(
        structured_report([said("Died of liver failure")], PERSON, content_date="20260120", number=2),
        tmp_path / "late.dcm",
    )
    undated = structured_report([said("Progression")], PERSON, number=3)
    del undated.ContentDate
    found = collected(
        EvidenceOrder(text_encoder=ENCODE), early, late, written(undated, tmp_path / "undated.dcm")
    )
    assert found.texts.encoder == HashedNgrams().name
    (vector,) = found.texts.of["P1"]
    expected = HashedNgrams().encode(scrubbed(words, ("DOE",)))
    np.testing.assert_allclose(vector, expected, atol=1e-6)
    assert collected(EvidenceOrder(), early).texts.of == {}


def test_reports_of_the_site_end_on_the_day_of_the_baseline_study(tmp_path: Path) -> None:
    image = write_run(tmp_path, run(0.5), PatientName=PERSON.name)
    for name in ("before", "after"):
        (tmp_path / f"{name}.txt").write_text(f"Ascites {name}, DOE JOHN", encoding="utf-8")
    table = tmp_path / "reports.csv"
    lines = [f"{PERSON.patient_id},2026-01-15,before.txt", f"{PERSON.patient_id},2026-01-16,after.txt"]
    table.write_text("\n".join(["patient_id,date,file", *lines]) + "\n", encoding="utf-8")
    found = collected(EvidenceOrder(reports=table, text_encoder=ENCODE), image)
    (vector,) = found.texts.of["P1"]
    np.testing.assert_allclose(vector, HashedNgrams().encode("Ascites before, "), atol=1e-6)
    (tmp_path / "after.txt").unlink()
    with pytest.raises(TrainingDataError, match="row 3: the file is not there"):
        collected(EvidenceOrder(reports=table, text_encoder=ENCODE), image)


def test_angiographies_of_the_study_from_before_the_treatment_become_vectors(tmp_path: Path) -> None:
    early = write_run(tmp_path, run(0.5), 1, ContentDate="20260119")
    late = write_run(tmp_path, run(0.9), 2, ContentDate="20260120")
    undated = write_run(tmp_path, run(0.9), 3)
    found = collected(EvidenceOrder(), early, late, undated)
    assert found.angiographies.encoder == ENCODER
    assert len(found.angiographies.of["P1"]) == 1
    assert collected(EvidenceOrder(), late, undated).angiographies.of == {}


def test_a_patient_who_is_left_out_takes_the_evidence_along(tmp_path: Path) -> None:
    rows = [f"{PERSON.patient_id},2026-01-15,albumin [g/L],36"]
    found = collected(EvidenceOrder(laboratory=laboratory(tmp_path, *rows)))
    assert found.of(["P2"]) == replace(found, dated={})
    assert found.of(["P1", "P2"]) == found
