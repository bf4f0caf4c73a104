"""Reading and writing a folder of predictions, and what is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from inference.errors import PredictionsError
from inference.evaluation.predictions.folder import Study, read_predictions, write_predictions
from inference.evaluation.predictions.models import Arm, ModelEntry
from inference.evaluation.predictions.survival_file import SurvivalPrediction
from tests.builders.predictions import ALL, MONTHS, four_arms, survival_model, truth


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    known = truth(60)
    folder = tmp_path_factory.mktemp("predictions")
    write_predictions(folder, known.patients, four_arms(known), Study(title="A study"))
    return known, folder


@pytest.fixture
def folder(written, tmp_path):
    shutil.copytree(written[1], tmp_path / "copy")
    return tmp_path / "copy"


def test_what_is_written_is_read(written):
    known, folder = written
    found = read_predictions(folder)
    assert found.patients.ids == known.patients.ids
    assert found.study.title == "A study"
    for name in ("os", "pfs"):
        np.testing.assert_array_equal(
            found.patients.survival[name].months, known.patients.survival[name].months
        )
        np.testing.assert_array_equal(
            found.patients.survival[name].event, known.patients.survival[name].event
        )
    np.testing.assert_array_equal(found.patients.response, known.patients.response)
    pd.testing.assert_frame_equal(found.patients.covariates, known.patients.covariates, check_dtype=False)
    for read, made in zip(found.models, four_arms(known), strict=True):
        assert read.entry == made.entry
        for end_point, prediction in made.survival.items():
            np.testing.assert_allclose(read.survival[end_point].survival, prediction.survival, atol=1e-12)
            np.testing.assert_allclose(read.survival[end_point].upper, prediction.upper, atol=1e-12)
    assert found.of("response") == tuple(m for m in found.models if m.entry.name != "real")


def test_the_digest_is_of_the_files(written, folder):
    before = read_predictions(folder).digest
    assert before == read_predictions(written[1]).digest
    change(folder, "clinical.response.csv", lambda t: t.assign(probability=0.5))
    assert read_predictions(folder).digest != before


def change(folder, name, how):
    table = pd.read_csv(folder / name, dtype=str, keep_default_na=False)
    how(table).astype(str).to_csv(folder / name, index=False)


def cell(column, row, value):
    def put(table):
        table.loc[row, column] = value
        return table

    return put


OUTCOMES, OS, RESPONSE = "outcomes.csv", "clinical.os.csv", "clinical.response.csv"
TEST_ROW = 45


@pytest.mark.parametrize(
    ("name", "how", "words"),
    [
        (OUTCOMES, cell("split", 3, "tset"), "row 5: the split is tset"),
        (OUTCOMES, cell("split", 3, ""), "the split is empty"),
        (OUTCOMES, cell("os_event", 3, "2"), "os_event must be 0, 1 or empty"),
        (OUTCOMES, cell("os_event", 3, ""), "os_months and os_event must be given together"),
        (OUTCOMES, cell("os_months", 3, "-1"), "row 5: os_months is not between 0 and 600"),
        (OUTCOMES, cell("os_months", 3, "soon"), "row 5: os_months is not a number"),
        (OUTCOMES, cell("patient", 3, "P0001"), "row 5: patient is there twice"),
        (OUTCOMES, lambda t: t.assign(split="train"), "nobody can be measured"),
        (OUTCOMES, lambda t: t.drop(columns="centre"), "lacks the column centre"),
        (OS, lambda t: t.drop(index=TEST_ROW), "lacks 1 patients who must be measured"),
        (OS, cell("patient", 3, "nobody"), "row 5: outcomes.csv does not have this patient"),
        (OS, cell("s@24", 3, "0.999999"), "row 5: survival rises over time"),
        (OS, cell("s@3", 3, "1.2"), "row 5: s@3 is not between 0 and 1"),
        (OS, cell("s@12", 3, "nan"), "row 5: s@12 is not a number"),
        (OS, cell("s@12", 3, ""), "row 5: s@12 is empty"),
        (OS, cell("risk", 3, "inf"), "row 5: risk is not a number"),
        (OS, cell("s@12_lower", 3, "1"), "outside its own limits"),
        (OS, lambda t: t.drop(columns=["s@36", "s@36_lower", "s@36_upper"]), "lacks the column s@36"),
        (OS, lambda t: t.assign(extra=1), "the column extra means nothing here"),
        (OS, lambda t: t.drop(columns="s@3"), "s@3_lower has no survival beside it"),
        (RESPONSE, cell("probability", 3, "1.01"), "row 5: probability is not between 0 and 1"),
        (RESPONSE, lambda t: t[t.patient < "P0050"], "must be measured, the first in row"),
    ],
)
def test_wrong_tables_are_refused_by_file_and_row(folder, name, how, words):
    change(folder, name, how)
    with pytest.raises(PredictionsError, match=name.split(".")[0]) as refused:
        read_predictions(folder)
    assert words in str(refused.value)
    assert "P00" not in str(refused.value)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([], "at least 1 item"),
        ([{"name": "a", "title": "A", "arm": "magic", "end_points": ["os"]}], "0.arm"),
        ([{"name": "a/b", "title": "A", "arm": "other", "end_points": ["os"]}], "0.name"),
        ([{"name": "a", "title": "A", "arm": "other", "end_points": ["os"], "reference": True}], "reference"),
        ([{"name": n, "title": n, "arm": "other", "end_points": ["os"]} for n in "aA"], "the same name"),
        (
            [
                {"name": n, "title": n, "arm": "other", "end_points": ["os"], "role": "reference"}
                for n in "ab"
            ],
            "only one model can be the reference",
        ),
        ([{"name": "a", "title": "A", "arm": "other", "end_points": ["os"]}], "a.os.csv is missing"),
    ],
)
def test_wrong_models_are_refused(folder, entries, words):
    (folder / "models.json").write_text(json.dumps(entries), encoding="utf-8")
    with pytest.raises(PredictionsError) as refused:
        read_predictions(folder)
    assert words in str(refused.value)


def test_absent_and_damaged_files_are_refused(folder, tmp_path):
    with pytest.raises(PredictionsError, match="there is no folder"):
        read_predictions(tmp_path / "absent")
    (folder / "study.json").write_text('{"titel": "x"}', encoding="utf-8")
    with pytest.raises(PredictionsError, match=r"study\.json"):
        read_predictions(folder)
    (folder / OUTCOMES).write_bytes(b"")
    with pytest.raises(PredictionsError, match="cannot be read as CSV"):
        read_predictions(folder)
    (folder / OUTCOMES).unlink()
    with pytest.raises(PredictionsError, match="is missing"):
        read_predictions(folder)


def test_training_patients_and_those_gone_before_a_landmark_need_no_row(folder):
    found = read_predictions(folder)
    months = found.patients.survival["os"].months
    train = found.patients.in_split("train")
    gone = np.array(found.patients.ids)[(months <= 3) & ~train]
    assert len(gone)
    change(folder, "real.os.csv", lambda t: t[~t.patient.isin(gone)])
    change(folder, OS, lambda t: t[~t.patient.isin(np.array(found.patients.ids)[train])])
    again = read_predictions(folder)
    assert not again.models[0].survival["os"].predicted[train].any()
    change(folder, OS, lambda t: t[~t.patient.isin(gone)])
    with pytest.raises(PredictionsError, match="must be measured"):
        read_predictions(folder)


def test_survival_between_months_has_a_constant_hazard():
    hazard = np.array([0.02, 0.1, 0.3])
    nothing = np.full((3, 4), np.nan)
    months = np.array([6.0, 12, 24, 36])
    made = SurvivalPrediction(months, hazard, np.exp(-hazard[:, None] * months), nothing, nothing)
    for at in (0.5, 6.0, 17.0, 36.0):
        np.testing.assert_allclose(made.at(at), np.exp(-hazard * at), rtol=1e-9)
    np.testing.assert_allclose(
        made.at_own_times(np.array([0.0, 9.0, 30.0])), np.exp(-hazard * [0, 9, 30]), rtol=1e-9
    )
    with pytest.raises(ValueError, match="no survival at 37 months"):
        made.at(37.0)


def test_a_model_without_its_prediction_is_not_written(tmp_path):
    known = truth(60)
    entry = ModelEntry(name="a", title="A", arm=Arm.OTHER, end_points=ALL)
    made = survival_model(known, entry, known.log_hazard(), MONTHS)
    with pytest.raises(PredictionsError, match="no prediction of response"):
        write_predictions(tmp_path, known.patients, [type(made)(entry, made.survival, None)])
    assert not list(tmp_path.iterdir())
