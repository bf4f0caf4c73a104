"""Cohorts of the comparison as tables: what is read, and what is refused with its row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.comparison.table import ON_THE_FIRST_DAY_MONTHS, Columns, read_cohort_table
from inference.errors import TrainingDataError

HEADER = "age,regimen_id,os_months,os_event\n"


def table(folder: Path, *rows: str) -> Path:
    path = folder / "patients.csv"
    path.write_text(HEADER + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_the_reference_comes_first_and_incomplete_rows_are_counted(tmp_path: Path) -> None:
    path = table(tmp_path, "60,haic,5,1", "70,tace,7.5,0", ",tace,3,1")
    read = read_cohort_table(path, Columns(("age",)), "tace")
    assert read.left_out == 1
    assert read.cohort.regimens == ("tace", "haic")
    assert read.cohort.regimen.tolist() == [1, 0]
    assert read.cohort.months.tolist() == [5, 7.5]
    assert read.cohort.event.tolist() == [True, False]


def test_a_death_on_the_day_of_treatment_counts(tmp_path: Path) -> None:
    path = table(tmp_path, "60,haic,0,1", "70,tace,7.5,0")
    months = read_cohort_table(path, Columns(("age",)), "tace").cohort.months
    np.testing.assert_allclose(months, [ON_THE_FIRST_DAY_MONTHS, 7.5])
    assert 0 < ON_THE_FIRST_DAY_MONTHS * 30.4375 < 1


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("60,haic,-1,1", "os_months of row 2 is negative"),
        ("60,haic,nan,1", "os_months of row 2 is not a number"),
        ("sixty,haic,1,1", "age of row 2 is not a number"),
        ("60,haic,1,maybe", "os_event of row 2 is neither"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_row(tmp_path: Path, row: str, what: str) -> None:
    path = table(tmp_path, "70,tace,7.5,0", row)
    with pytest.raises(TrainingDataError, match=what):
        read_cohort_table(path, Columns(("age",)), "tace")


def test_two_columns_that_say_the_same_are_refused_by_name(tmp_path: Path) -> None:
    rows = ["60,haic,1,1", "70,tace,7.5,0", "55,tace,3,1"]
    path = table(tmp_path, *rows)
    text = path.read_text().replace("age,", "age,age_in_days,never,")
    for age in ("60", "70", "55"):
        text = text.replace(f"\n{age},", f"\n{age},{365 * int(age)},0,")
    path.write_text(text)
    with pytest.raises(TrainingDataError, match="age_in_days follows from the other covariates"):
        read_cohort_table(path, Columns(("age", "never", "age_in_days")), "tace")
    assert read_cohort_table(path, Columns(("age", "never")), "tace").cohort.covariates.shape == (3, 2)
