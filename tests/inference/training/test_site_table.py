"""The table of a site: every problem is found at once, and none names a patient."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from inference.errors import TrainingDataError
from inference.training.site_pseudonyms import Pseudonyms, make_salt, read_salt
from inference.training.site_table import Role, TableRefused, read_site_table, template
from tests.builders.site_archive import write_table

REGIMENS = ("tace", "haic")
GOOD = {
    "patient_id": "SECRET-1",
    "study_date": "2024-02-20",
    "role": "baseline",
    "treatment_start": "2024-03-01",
    "regimen_id": "tace",
    "centre": "Hospital A",
}
LATER = {"patient_id": "SECRET-1", "study_date": "2024-05-31"}


def read(tmp_path: Path, *rows: dict[str, str]):
    return read_site_table(write_table(tmp_path / "table.csv", rows), REGIMENS)


def problems(tmp_path: Path, *rows: dict[str, str]) -> set[tuple[int, str]]:
    with pytest.raises(TableRefused) as refused:
        read(tmp_path, *rows)
    for problem in refused.value.problems:
        assert "SECRET" not in problem.reason
    assert "SECRET" not in str(refused.value)
    return {(p.row, p.column) for p in refused.value.problems}


def test_template_is_a_valid_table(tmp_path):
    path = tmp_path / "template.csv"
    path.write_text(template(), encoding="utf-8")
    (patient,) = read_site_table(path, REGIMENS)
    assert [s.role for s in patient.studies] == [Role.BASELINE, Role.FOLLOW_UP]
    assert patient.treatment_start == dt.date(2024, 3, 1)
    assert patient.os == (21.5, 1)
    assert patient.clinical.values["albumin"].value == 38.0


def test_values_of_the_patient_may_stand_on_any_of_the_rows(tmp_path):
    said_later = {**LATER, "os_months": "12", "os_event": "0", "albumin [g/dL]": "3.8"}
    (patient,) = read(tmp_path, GOOD, said_later)
    assert patient.os == (12.0, 0)
    assert patient.clinical.values["albumin"].value == pytest.approx(38.0)


def test_every_problem_is_listed_at_once(tmp_path):
    found = problems(
        tmp_path,
        {
            **GOOD,
            "treatment_start": "01.03.2024",
            "regimen_id": "surgery",
            "os_months": "-3",
            "os_event": "1",
        },
        {**LATER, "role": "later", "albumin [g/dL]": "400"},
        {"patient_id": "SECRET-2", "role": "baseline", "centre": "B"},
        {"study_date": "2024-01-01"},
        {**GOOD, "patient_id": "SECRET-3", "pfs_months": "5", "no_tumour_left": "perhaps"},
    )
    assert found == {
        (2, "treatment_start"),
        (2, "regimen_id"),
        (2, "os_months"),
        (3, "role"),
        (3, "albumin"),
        (4, "study_instance_uid"),
        (4, "treatment_start"),
        (4, "regimen_id"),
        (5, "patient_id"),
        (6, "pfs_months"),
        (6, "no_tumour_left"),
    }


def test_rows_of_one_patient_must_not_differ(tmp_path):
    assert problems(tmp_path, GOOD, {**LATER, "regimen_id": "haic"}) == {(3, "regimen_id")}


@pytest.mark.parametrize(
    ("cells", "column"),
    [
        ({"os_months": "6", "os_event": "1", "pfs_months": "9", "pfs_event": "1"}, "pfs_months"),
        ({"os_months": "6", "os_event": "1", "pfs_months": "6", "pfs_event": "0"}, "pfs_event"),
        ({"os_months": "6", "os_event": "2"}, "os_event"),
        ({"os_months": "nan", "os_event": "1"}, "os_months"),
    ],
)
def test_impossible_survival_is_a_problem(tmp_path, cells, column):
    assert (2, column) in problems(tmp_path, {**GOOD, **cells})


def test_a_study_in_two_rows_is_a_problem(tmp_path):
    twice = {**GOOD, "study_instance_uid": "1.2.3"}
    assert problems(tmp_path, twice, {**twice, "role": ""}) == {(3, "study_instance_uid")}


def test_unknown_and_missing_columns_are_named(tmp_path):
    path = write_table(tmp_path / "t.csv", [], ("patient_id", "treatment_start", "centre", "albumine"))
    with pytest.raises(TableRefused) as refused:
        read_site_table(path, REGIMENS)
    assert {p.column for p in refused.value.problems} == {"albumine", "regimen_id", "study_instance_uid"}


def test_pseudonyms_depend_on_the_salt_and_on_the_issuer(tmp_path):
    make_salt(tmp_path / "salt")
    assert (tmp_path / "salt").stat().st_mode & 0o077 == 0
    names = read_salt(tmp_path / "salt")
    assert names.of("", "1") == read_salt(tmp_path / "salt").of("", "1")
    assert len({names.of("", "1"), names.of("A", "1"), names.of("", "2"), Pseudonyms(b"x").of("", "1")}) == 4
    with pytest.raises(TrainingDataError):
        make_salt(tmp_path / "salt")


def test_a_file_that_is_no_salt_is_refused(tmp_path):
    (tmp_path / "salt").write_text("short", encoding="ascii")
    with pytest.raises(TrainingDataError, match="64"):
        read_salt(tmp_path / "salt")
