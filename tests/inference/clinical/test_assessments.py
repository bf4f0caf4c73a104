"""Response of a table of sums."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.clinical.assessments import Criteria, assess_table
from inference.errors import ClinicalError

ROWS = """\
label,baseline_mm,current_mm,nadir_mm,new_lesions,non_target,targets_gone
a,100,70,,,,
b,20,24,20,no,none,
c,50,36,30,,,
d,50,0,,yes,,
e,60,9.9,,,CR,yes
f,60,0,,,non-CR/non-PD,
g,60,,,,,
h,,30,,,,
"""


def table(folder: Path, text: str) -> Path:
    path = folder / "sums.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_column_counts(tmp_path: Path) -> None:
    path = table(tmp_path, ROWS)
    recist = assess_table(path, Criteria.RECIST11)
    assert [row.category for row in recist.rows] == ["PR", "SD", "PD", "PD", "CR", "PR", "NE", "NE"]
    assert [row.row for row in recist.rows] == list(range(2, 10))
    assert recist.rows[0].change_pct == pytest.approx(-30.0)
    assert recist.rows[6].change_pct is None
    assert recist.objective_response is not None
    assert (recist.objective_response.successes, recist.objective_response.n) == (3, 6)
    assert assess_table(path, Criteria.MRECIST).rows[1].category == "PD"


def test_nothing_evaluable_has_no_rate(tmp_path: Path) -> None:
    result = assess_table(table(tmp_path, "baseline_mm,current_mm\n,\n0,10\n"), Criteria.RECIST11)
    assert result.objective_response is None
    assert [row.category for row in result.rows] == ["NE", "NE"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("baseline_mm\n10\n", "no column current_mm"),
        ("", "no column baseline_mm"),
        ("baseline_mm,current_mm\nten,5\n", "Row 2: baseline_mm is not a number"),
        ("baseline_mm,current_mm\n10,-5\n", "Row 2: current_mm is not between"),
        ("baseline_mm,current_mm,new_lesions\n10,5,2\n", "Row 2: new_lesions must be one of yes"),
        ("baseline_mm,current_mm,non_target\n10,5,gone\n", "Row 2: non_target must be one of none, cr"),
    ],
)
def test_refusals_name_row_and_column(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ClinicalError, match=message):
        assess_table(table(tmp_path, text), Criteria.RECIST11)


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(ClinicalError, match="cannot be read"):
        assess_table(tmp_path / "absent.csv", Criteria.RECIST11)
