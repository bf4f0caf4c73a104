"""Which study a row means, and what it is to its patient."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from inference.case import ClinicalRecord
from inference.errors import TrainingDataError
from inference.training.cohort import Split
from inference.training.cohort_split import SplitSettings, Stratum, split_patients
from inference.training.site_archive import Archive, ArchiveStudy, match_studies, read_keys
from inference.training.site_table import PatientRows, Role, StudyRow, TableRefused

START = dt.date(2024, 3, 1)
KEY = ("", "SECRET-1")


def study(uid: str, date: str, key=KEY) -> ArchiveStudy:
    return ArchiveStudy(uid, frozenset([key]), frozenset([date]), (Path(uid),))


def archive(*studies: ArchiveStudy) -> Archive:
    return Archive({s.study_instance_uid: s for s in studies})


def patient(*rows: StudyRow, key=KEY) -> PatientRows:
    return PatientRows(key, rows, START, "tace", "A", ClinicalRecord(), None, None)


def by_uid(row: int, uid: str, role: Role | None = None) -> StudyRow:
    return StudyRow(row, uid, None, role, False)


def by_date(row: int, date: str, role: Role | None = None) -> StudyRow:
    return StudyRow(row, None, dt.date.fromisoformat(date), role, False)


def reasons(patients, found, keys=None) -> list[tuple[int, str]]:
    with pytest.raises(TableRefused) as refused:
        match_studies(patients, found, keys)
    assert not any("SECRET" in p.reason for p in refused.value.problems)
    return [(p.row, p.column) for p in refused.value.problems]


EARLY, BASE = study("1.1", "20240110"), study("1.2", "20240220")
LATE, LATER = study("1.3", "20240401"), study("1.4", "20240531")


def test_roles_follow_from_dates():
    rows = (by_uid(2, "1.1"), by_date(3, "2024-05-31"), by_uid(4, "1.2"), by_uid(5, "1.3"))
    (found,) = match_studies([patient(*rows)], archive(EARLY, BASE, LATE, LATER))
    assert found.baseline.study is BASE
    assert [f.study for f in found.follow_ups] == [LATE, LATER]
    assert [u.study for u in found.unused] == [EARLY]
    assert found.follow_ups[1].months == pytest.approx(91 / 30.4375)


def test_on_the_day_of_treatment_the_role_must_be_said():
    same_day = study("1.5", "20240301")
    found = archive(same_day, LATE)
    assert reasons([patient(by_uid(2, "1.5"), by_uid(3, "1.3"))], found) == [(2, "role")]
    (known,) = match_studies([patient(by_uid(2, "1.5", Role.BASELINE), by_uid(3, "1.3"))], found)
    assert known.baseline.study is same_day


def test_everything_that_does_not_match_is_listed():
    other = study("1.9", "20240220", ("", "SECRET-2"))
    twin = study("1.7", "20240531")
    rows = patient(by_uid(2, "9.9"), by_uid(3, "1.9"), by_date(4, "2024-05-31"), by_date(5, "2020-01-01"))
    found = archive(BASE, LATER, twin, other)
    assert reasons([rows], found) == [
        (2, "study_instance_uid"), (3, "patient_id"), (4, "study_date"), (5, "study_date"),
    ]  # fmt: skip


def test_a_patient_needs_a_baseline_and_a_follow_up():
    assert reasons([patient(by_uid(2, "1.2"))], archive(BASE)) == [(2, "role")]
    assert reasons([patient(by_uid(2, "1.3"))], archive(LATE)) == [(2, "role")]


def test_one_study_under_its_date_and_its_uid_is_a_problem():
    rows = patient(by_uid(2, "1.2"), by_uid(3, "1.3"), by_date(4, "2024-04-01"))
    assert reasons([rows], archive(BASE, LATE))


def test_table_date_must_agree_with_the_files():
    row = StudyRow(2, "1.2", dt.date(2024, 2, 21), None, False)
    assert reasons([patient(row, by_uid(3, "1.3"))], archive(BASE, LATE)) == [(2, "study_date")]


def test_keys_of_the_table_are_looked_up(tmp_path):
    (tmp_path / "keys.csv").write_text("key,patient_id\nK1,SECRET-1\n", encoding="utf-8")
    keys = read_keys(tmp_path / "keys.csv")
    rows = (by_uid(2, "1.2"), by_uid(3, "1.3"))
    (found,) = match_studies([patient(*rows, key=("", "K1"))], archive(BASE, LATE), keys)
    assert found.key == KEY
    assert reasons([patient(*rows, key=("", "K2"))], archive(BASE, LATE), keys) == [(2, "patient_id")]


# ------------------------------------------------------------------ splits


def strata(count: int) -> dict[str, Stratum]:
    return {f"P{k:03d}": Stratum("A" if k % 3 else "B", ("tace", "haic")[k % 2]) for k in range(count)}


@pytest.mark.parametrize("count", [20, 57, 100])
def test_shares_are_kept_in_the_whole_and_in_every_stratum(count):
    found = split_patients(strata(count), SplitSettings())
    test = {p for p, s in found.items() if s is Split.TEST}
    assert abs(len(test) - 0.3 * count) <= 1
    for stratum in set(strata(count).values()):
        members = {p for p, s in strata(count).items() if s == stratum}
        assert abs(len(members & test) - 0.3 * len(members)) <= 1
    validation = sum(s is Split.VALIDATION for s in found.values())
    assert abs(validation - 0.15 * (count - len(test))) <= 1


def test_division_depends_on_patients_and_seed_only():
    forwards = split_patients(strata(40), SplitSettings())
    backwards = split_patients(dict(reversed(strata(40).items())), SplitSettings())
    assert forwards == backwards
    assert forwards != split_patients(strata(40), SplitSettings(seed=1))


def test_too_few_patients_are_refused():
    with pytest.raises(TrainingDataError, match="19"):
        split_patients(strata(19), SplitSettings())
