"""The calculators of ``hepatocast assess`` on a table of patients."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dicom_node.cli import assess
from inference.clinical.files import KNOWN
from inference.clinical.toxicity import TOXICITY
from inference.errors import ClinicalError

RUNNER = CliRunner()
SECRET = "MRN-SECRET-77"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def table(folder: Path, *lines: str) -> Path:
    path = folder / "patients.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def assessed(*arguments: str | Path) -> Result:
    result = RUNNER.invoke(assess.app, [str(a) for a in arguments])
    assert SECRET not in result.output
    return result


def written(out: Path) -> list[dict[str, str]]:
    with out.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


# ------------------------------------------------------------------ scores


def test_scores_of_vectors(tmp_path: Path) -> None:
    """ALBI -2.1163 and EZ-ALBI -30.33 are vectors of clinical_vectors.yaml; 1.1696 mg/dL is 20 umol/L."""
    path = table(tmp_path, "patient_id,albumin [g/dL],bilirubin [umol/L]", f"{SECRET},3.5,20")
    result = assessed("scores", path, "--score", "albi", "--score", "albi_grade", "--score", "ez_albi")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()[1:]]
    assert [line[-1] for line in lines] == ["-2.116", "2b", "-30.33"]


def test_scores_say_what_they_lack(tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    path = table(tmp_path, "albumin [g/L],bilirubin [umol/L],age", "35,20,", ",20,61")
    assert assessed("scores", path, "--out", out, "--score", "albi", "--score", "fib4").exit_code == 0
    first, second = json.loads(out.read_text(encoding="utf-8"))
    assert first == {
        "row": "row 2",
        "albi": pytest.approx(-2.1163, abs=1e-4),
        "fib4": None,
        "missing": "age, ast, platelets, alt",
    }
    assert second["albi"] is None
    assert second["missing"] == "albumin, ast, platelets, alt"


def test_last_dated_value_before_treatment_is_used(tmp_path: Path) -> None:
    columns = "albumin @ -40 [g/L],albumin @ -3 [g/L],albumin @ 9 [g/L],bilirubin [umol/L]"
    out = tmp_path / "scores.csv"
    path = table(tmp_path, columns, "20,35,10,20", "20,,10,20")
    assessed("scores", path, "--score", "albi", "--out", out)
    albi = [row["albi"] for row in written(out)]
    assert float(albi[0]) == pytest.approx(-2.1163, abs=1e-4)
    assert albi[1] == ""


def test_dates_need_a_baseline(tmp_path: Path) -> None:
    header = "bilirubin [umol/L],albumin @ 2026-01-12 [g/L],baseline_date"
    out = tmp_path / "scores.csv"
    assessed("scores", table(tmp_path, header, "20,35,2026-01-15"), "--score", "albi", "--out", out)
    assert float(written(out)[0]["albi"]) == pytest.approx(-2.1163, abs=1e-4)
    refused = assessed("scores", table(tmp_path, header, "20,35,"))
    assert "row 2: a column is dated, and baseline_date is not given" in str(refused.exception)


@pytest.mark.parametrize(
    ("header", "cell", "message"),
    [
        ("albumin", "38", "row 2: 'albumin' has no unit"),
        ("albumin [g/dL]", "38", "row 2: 'albumin' is outside the plausible 10 to 70 g/L"),
        ("albumine [g/L]", "38", "did you mean 'albumin'"),
        ("albumin @ soon [g/L]", "38", "row 2: a dated column is not written like"),
        ("sex @ 3", "F", "'sex' is no laboratory value and cannot be dated"),
        ("fatigue", "6", "'fatigue' is outside the plausible 0 to 5"),
    ],
)
def test_refusals_name_row_and_variable(tmp_path: Path, header: str, cell: str, message: str) -> None:
    result = assessed("scores", table(tmp_path, f"patient_id,{header}", f"{SECRET},{cell}"))
    assert isinstance(result.exception, ClinicalError)
    assert message in str(result.exception)
    assert SECRET not in str(result.exception)


def test_wrong_usage(tmp_path: Path) -> None:
    path = table(tmp_path, "age", "61")
    assert assessed("scores", path, "--score", "nonsense").exit_code == 2
    assert assessed("scores", path, "--out", tmp_path / "scores.txt").exit_code == 2


# ------------------------------------------------------------------ eligibility


def test_eligibility_of_answers_and_values(tmp_path: Path) -> None:
    out = tmp_path / "criteria.csv"
    path = table(tmp_path, "age,hiv,qtc [ms],sex,bilirubin [mg/dL]", "17,no,460,F,2.5")
    assert assessed("eligibility", path, "--out", out).exit_code == 0
    found = {row["criterion"]: row for row in written(out)}
    assert {row["overall"] for row in found.values()} == {"not met"}
    assert found["age above 18 years"]["answer"] == "not met"
    assert found["no HIV infection or AIDS"]["answer"] == "met"
    assert found["ECOG at most 2"]["missing"] == "ecog"
    assert "ambiguous" in found["bilirubin at most 40.7 umol/L"]["note"]
    shown = assessed("eligibility", path).stdout
    assert "no HIV infection" not in shown
    assert "inclusion 4: age above 18 years" in shown


# ------------------------------------------------------------------ toxicity


def test_toxicity_is_the_worst_day_against_the_last_baseline(tmp_path: Path) -> None:
    header = "alt @ -9 [U/L],alt @ -2 [U/L],alt @ 7 [U/L],alt @ 28 [U/L],alt_upper_limit [U/L],fatigue"
    out = tmp_path / "events.csv"
    path = table(tmp_path, header, "300,35,240,80,40,1", "300,100,240,80,40,")
    assert assessed("toxicity", path, "--out", out).exit_code == 0
    first, fatigue, second = written(out)
    # 240 is 6 times the limit; against an abnormal baseline of 100 it is 2.4 times.
    assert (first["term"], first["grade"], first["day"]) == ("Alanine aminotransferase increased", "3", "7")
    assert (fatigue["term"], fatigue["grade"], fatigue["by"]) == ("Fatigue", "1", "clinician")
    assert (second["row"], second["grade"], second["day"]) == ("row 3", "1", "7")


def test_toxicity_without_limits_is_not_graded(tmp_path: Path) -> None:
    out = tmp_path / "events.json"
    assessed("toxicity", table(tmp_path, "alt [U/L],systolic [mmHg]", "80,150"), "--out", out)
    events = {e["term"]: e for e in json.loads(out.read_text(encoding="utf-8"))}
    assert events["Alanine aminotransferase increased"]["grade"] is None
    assert "alt_upper_limit" in events["Alanine aminotransferase increased"]["note"]
    assert "diastolic" in events["Hypertension"]["note"]


def test_grade_that_a_term_does_not_have_is_refused(tmp_path: Path) -> None:
    result = assessed("toxicity", table(tmp_path, "fatigue", "5"))
    assert "row 2: Fatigue has the grades 1, 2, 3 only" in str(result.exception)


# ------------------------------------------------------------------ sample size


def test_sample_size_of_options_and_rows(tmp_path: Path) -> None:
    """Examples of clinical_vectors.yaml, pmsampsize 1.1."""
    out = tmp_path / "sizes.csv"
    path = table(
        tmp_path,
        "parameters,r2,prevalence,rate,follow_up,time",
        "24,.288,.174,,,",
        "25,.051,,.065,2.07,2",
    )
    assert assessed("samplesize", path, "--out", out).exit_code == 0
    sizes = [(row["outcome"], row["patients"], row["optimism"]) for row in written(out)]
    assert sizes == [("binary", "662", "662"), ("survival", "4286", "866")]
    options = ["--parameters", "20", "--auc", "0.8", "--prevalence", "0.2"]
    assert "882" in assessed("samplesize", *options).stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--parameters", "20", "--prevalence", "0.2"], "give r2 or auc"),
        (["--parameters", "20", "--r2", "0.1"], "give prevalence and r2 or auc, or r2, rate"),
        (["--r2", "0.1"], "whole number of parameters"),
        (["--parameters", "20", "--r2", "0.99", "--prevalence", "0.2"], "R2 must lie between"),
    ],
)
def test_sample_size_refuses_what_it_cannot_know(options: list[str], message: str) -> None:
    assert message in str(assessed("samplesize", *options).exception)


def test_columns_of_several_calculators_mean_the_same() -> None:
    both = set(KNOWN) & set(TOXICITY)
    assert {"alt_upper_limit", "albumin", "qtc"} <= both
    for name in both:
        assert (KNOWN[name].kind, KNOWN[name].unit) == (TOXICITY[name].kind, TOXICITY[name].unit), name
    assert {"fatigue", "palmar_plantar_erythrodysesthesia_syndrome", "inr_anticoagulated"} <= set(TOXICITY)
