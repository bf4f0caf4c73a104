"""The bundle of HCC-TACE-Seg: no leak, honest figures (its bytes: see the test of the command)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from sksurv.datasets import load_gbsg2

from inference.bundle_store import bundle_folder, load_metadata
from inference.errors import ModelError
from inference.models.cox_design import COVARIATES, covariate_row
from inference.training.fit_cox import NAME, cross_validate
from inference.training.hcc_tace_seg import COLUMNS, OUTCOMES, Outcome, read_cohort

TABLE = "hcc_tace_seg/clinical_Data.csv"
KNOWN_LATER = {
    "Interval_BL",
    "Interval_FU",
    "TTP",
    "OS",
    "Death_1_StillAliveorLostToFU_0",
    "Censored_0_progressed_1",
}


def test_shipped_figures_are_plausible_and_complete() -> None:
    info, metadata = load_metadata(NAME)
    assert info.trained_on == "real: HCC-TACE-Seg, n 105, events 93 (OS) / 45 (TTP)"
    figures = metadata["cross_validation"]["figures"]
    assert set(figures) == {"os", "ttp"}
    for name in figures:
        assert {"c", "uno_c", "ibs", "ibs_kaplan_meier", "calibration"} <= set(figures[name])
    # Above .70 on these 105 patients would be a leak until shown otherwise.
    assert 0.55 < figures["os"]["c"]["mean"] < 0.70
    assert figures["os"]["ibs"]["mean"] < figures["os"]["ibs_kaplan_meier"]["mean"]
    attribution = (bundle_folder(NAME) / "ATTRIBUTION").read_text("utf-8")
    assert "10.7937/TCIA.5FNA-0924" in attribution
    assert "CC BY 4.0" in attribution


def test_no_column_of_follow_up_or_of_a_reader_is_a_covariate() -> None:
    columns = {column for column, _, _ in COLUMNS}
    assert not columns & KNOWN_LATER
    assert not [c for c in columns if "RECIST" in c or "EASL" in c]


def test_covariates_do_not_depend_on_anything_known_later(needs_data, tmp_path: Path) -> None:
    with needs_data(TABLE).open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    kept = {column for column, _, _ in COLUMNS} | {c for pair in OUTCOMES.values() for c in pair}
    shuffled = tmp_path / "shuffled.csv"
    order = np.random.default_rng(0).permutation(len(rows))
    for column in set(rows[0]) - kept:
        values = [row[column] for row in rows]
        for row, i in zip(rows, order, strict=True):
            row[column] = values[i]
    with shuffled.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert read_cohort(shuffled).records == read_cohort(needs_data(TABLE)).records


def test_cohort_as_documented(needs_data) -> None:
    cohort = read_cohort(needs_data(TABLE))
    assert len(cohort.records) == 105
    assert {name: int(o.event.sum()) for name, o in cohort.outcomes.items()} == {"os": 93, "ttp": 45}
    assert np.median(cohort.outcomes["os"].months) == pytest.approx(104.43 * 7 / 30.4375, abs=0.01)
    x = np.array([covariate_row(record) for record in cohort.records])
    assert x.shape == (105, len(COVARIATES))
    assert np.isfinite(x).all()
    by_name = dict(zip(COVARIATES, x.sum(axis=0), strict=True))
    assert (by_name["male"], by_name["several_tumours"], by_name["over_half_of_liver"]) == (68, 53, 20)
    assert (by_name["vascular_invasion"], by_name["portal_vein_thrombosis"]) == (23, 16)
    assert (by_name["child_pugh"], by_name["performance_group"]) == (18 + 2, 52 + 2 * 2)


def test_other_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("age,Sex\n50,1\n")
    with pytest.raises(ModelError, match="HCC-TACE-Seg"):
        read_cohort(path)


def test_cross_validation_finds_nothing_in_noise() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(100, 10))
    outcome = Outcome(rng.exponential(20, size=100), rng.random(100) < 0.7)
    figures = cross_validate(x, outcome, "noise")
    assert abs(figures["c"]["mean"] - 0.5) < 0.08
    assert figures["ibs"]["mean"] > figures["ibs_kaplan_meier"]["mean"] - 0.01


@pytest.mark.slow
def test_cross_validation_reproduces_cox_ridge_on_gbsg2() -> None:
    table, outcome = load_gbsg2()
    x = np.column_stack(
        [
            *(table[c].to_numpy(float) for c in ("age", "estrec", "pnodes", "progrec", "tsize")),
            table["horTh"].eq("yes").to_numpy(float),
            table["menostat"].eq("Post").to_numpy(float),
            table["tgrade"].eq("II").to_numpy(float),
            table["tgrade"].eq("III").to_numpy(float),
        ]
    )
    months = outcome["time"].astype(float) / 30.4375
    figures = cross_validate(x, Outcome(months, outcome["cens"].astype(bool)), "gbsg2")
    assert figures["c"]["mean"] == pytest.approx(0.675, abs=0.015)
