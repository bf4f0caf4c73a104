"""Forecasters are scored against what is known of a small cohort."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

from inference.bundle_store import describe
from inference.errors import InferenceError, ModelError, TrainingDataError, UnsupportedRegimen
from inference.evaluation.adapters import REDRAW_COLUMNS, REDRAWS, GeneratorForecaster, Redraws
from inference.evaluation.baselines import (
    Climatology,
    Identity,
    RegimenMean,
    Ridge,
    UniformShrink,
    baseline_forecasters,
)
from inference.evaluation.extractors import Extractor
from inference.evaluation.forecasts import CLASSES, Detail, Forecast
from inference.evaluation.generator_evaluation import evaluate_generator
from inference.evaluation.generator_run import prepare, run
from inference.evaluation.learned import learned_forecasters
from inference.evaluation.maps import BaselineLesions, response_on_map, targets_at_baseline
from inference.evaluation.measures import Sampling
from inference.evaluation.patient_scores import BASELINE, TRUE
from inference.evaluation.questions import Known, Plan, choose, follow_up
from inference.evaluation.training_rows import log_ratio, ratio_of, training_rows
from inference.randomness import RandomStreams
from inference.results import ResponseCategory, Tissue
from inference.settings import Regimen
from inference.training.cohort import Cohort, Split, write_tables
from inference.training.cohort_rows import clinical_of
from inference.training.crop_study import as_study, crop_grid
from inference.training.crop_volumes import tissue_ml
from inference.training.kept_work import claim
from tests.builders.flow_bundles import REGIMENS as SCHEDULES
from tests.builders.flow_bundles import write_flow_bundle
from tests.builders.small_cohorts import REGIMENS, small_cohort

PLAN = Plan(patients=12, samples=8, image_samples=8)
STREAMS = RandomStreams(0)


def silent(_text: str, _share: float) -> None:
    return None


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Cohort:
    return small_cohort(tmp_path_factory.mktemp("cohort"), patients=50)


@pytest.fixture(scope="module")
def rows(cohort):
    return training_rows(cohort, silent)[0]


@pytest.fixture(scope="module")
def asked(cohort):
    return choose(cohort, Split.TEST, 12, STREAMS)


@dataclass(frozen=True)
class Perfect:
    """Knows the cohort, and draws what will be."""

    cohort: Cohort
    name: str = "perfect"

    def forecast(self, question, samples, detail, streams) -> Forecast:
        table = self.cohort.outcomes
        row = table[
            (table.patient_id == question.patient.patient_id)
            & (table.regimen_id == question.regimen_id)
            & (table.months == question.months)
        ].iloc[0]
        whole = self.cohort.images(question.patient.patient_id)
        seen = next(
            f for f in whole.follow_ups if (f.regimen_id, f.months) == (question.regimen_id, question.months)
        )
        found = response_on_map(question.targets, seen.fractions, seen.lesion, whole.liver)
        repeat = np.ones(2)
        change = (seen.images - whole.clean)[None].repeat(2, axis=0)
        return Forecast(
            row.viable_ml * repeat,
            row.necrosis_ml * repeat,
            row.lipiodol_ml * repeat,
            (ResponseCategory(row.mrecist),) * 2,
            found.viable_mm * repeat,
            change=change if detail is Detail.IMAGES else None,
            requested_viable_ml=row.viable_ml * repeat,
        )


@dataclass(frozen=True)
class Refusing:
    name: str = "refusing"

    def forecast(self, question, samples, detail, streams) -> Forecast:
        raise UnsupportedRegimen("not trained on this regimen")


# ------------------------------------------------------------------ questions


def test_a_question_holds_nothing_of_the_truth(cohort, asked):
    patient = cohort.images(asked[0].patient_id)
    question = Known.of(asked[0].row, patient).question(asked[0].main)
    assert question.patient.follow_ups == ()
    assert question.patient.clean is None
    assert not any(k.startswith(("latent", "os_", "pfs_")) for k in question.clinical.values)
    assert not any("latent" in k or "os_" in k for k in question.features)


def test_questions_are_of_the_split_and_the_same_for_the_same_seed(cohort, asked):
    assert {a.patient_id for a in asked} <= set(cohort.ids(Split.TEST))
    asked_of = [(a.patient_id, a.main, a.other) for a in asked]
    again, different = (choose(cohort, Split.TEST, 12, s) for s in (STREAMS, RandomStreams(1)))
    assert [(a.patient_id, a.main, a.other) for a in again] == asked_of
    assert [(a.patient_id, a.main, a.other) for a in different] != asked_of
    assert {a.main.regimen_id for a in asked} == set(REGIMENS)
    for one in asked:
        assert one.other is not None
        assert one.other.months == one.main.months
        assert one.other.regimen_id != one.main.regimen_id
        assert one.landmark is not None
        assert (one.landmark.regimen_id, one.landmark.months) == (one.row["regimen_id"], 3.0)


def test_a_cohort_without_test_patients_is_refused(cohort, tmp_path):
    patients = cohort.patients.assign(split="train")
    other = write_tables(tmp_path, cohort.info, patients, cohort.outcomes)
    with pytest.raises(TrainingDataError, match="no imaged follow-up in the split 'test'"):
        choose(other, Split.TEST, 5, STREAMS)


def test_missing_clinical_values_are_absent():
    record = clinical_of({"age": 61.0, "albumin": float("nan"), "sex": "M", "cirrhosis": 0, "x": 1})
    assert set(record.values) == {"age", "sex", "cirrhosis"}
    assert record.values["cirrhosis"].value is False
    assert record.values["age"].unit == "years"


# ------------------------------------------------------------------ baselines


def questions(cohort, asked):
    for one in asked:
        patient = cohort.images(one.patient_id)
        known = Known.of(one.row, patient)
        yield one, known, patient


def test_identity_changes_nothing(cohort, asked):
    one, known, _ = next(questions(cohort, asked))
    found = Identity().forecast(known.question(one.main), 8, Detail.IMAGES, STREAMS)
    assert found.viable_ml[0] == pytest.approx(one.baseline_viable_ml, rel=1e-6)
    assert found.mrecist == (ResponseCategory.SD,)
    assert not found.change.any()


def test_climatology_draws_the_rows_of_the_regimen_and_month(cohort, asked, rows):
    one, known, _ = next(questions(cohort, asked))
    found = Climatology(rows).forecast(known.question(one.main), 400, Detail.SCALARS, STREAMS)
    cell = (rows.regimen == one.main.regimen_id) & (rows.months == one.main.months)
    drawn = found.viable_ml / one.baseline_viable_ml
    for value in drawn:
        assert np.abs(rows.viable[cell] - value).min() < 1e-6
    for share in (0.1, 0.5, 0.9):
        assert np.quantile(drawn, share) == pytest.approx(np.quantile(rows.viable[cell], share), rel=0.05)


def test_the_mean_of_a_regimen_is_that_of_its_log_ratios(cohort, asked, rows):
    one, known, _ = next(questions(cohort, asked))
    found = RegimenMean(rows).forecast(known.question(one.main), 8, Detail.IMAGES, STREAMS)
    cell = (rows.regimen == one.main.regimen_id) & (rows.months == one.main.months)
    expected = ratio_of(np.mean(log_ratio(rows.viable[cell])))
    assert found.viable_ml[0] / one.baseline_viable_ml == pytest.approx(float(expected), rel=1e-6)


def test_uniform_shrink_is_the_same_share_for_everyone_and_is_drawn(cohort, asked, rows):
    ratios = []
    for one, known, _ in questions(cohort, asked[:3]):
        found = UniformShrink(rows).forecast(known.question(one.main), 8, Detail.IMAGES, STREAMS)
        ratios.append(found.viable_ml[0] / one.baseline_viable_ml)
        drawn = tissue_ml(found.fractions)[0, 0]
        assert drawn == pytest.approx(min(found.viable_ml[0], one.baseline_viable_ml), rel=0.02)
    assert max(ratios) - min(ratios) < 1e-6


def test_the_same_noise_is_used_under_every_regimen(cohort, asked, rows):
    one, known, _ = next(questions(cohort, asked))
    for forecaster in (Climatology(rows), Ridge.of(rows, STREAMS)):
        first = forecaster.forecast(known.question(one.main), 8, Detail.SCALARS, STREAMS)
        second = forecaster.forecast(known.question(one.other), 8, Detail.SCALARS, STREAMS)
        assert np.array_equal(np.argsort(first.viable_ml), np.argsort(second.viable_ml))
        again = forecaster.forecast(known.question(one.main), 8, Detail.SCALARS, STREAMS)
        np.testing.assert_array_equal(first.viable_ml, again.viable_ml)


def test_a_regimen_without_training_rows_takes_all(rows):
    assert len(rows.cell("unheard_of", 3.0)) == int((rows.months == 3.0).sum())


def test_log_ratio_is_finite_at_a_complete_response_and_inverted():
    ratio = np.array([0.0, 0.2, 1.0, 3.0])
    np.testing.assert_allclose(ratio_of(log_ratio(ratio)), ratio, atol=1e-12)


# ------------------------------------------------------------------ maps


def test_true_maps_have_the_volumes_of_the_table(cohort, asked):
    for one, _, patient in questions(cohort, asked[:4]):
        seen = follow_up(patient, one.main)
        assert tissue_ml(seen.fractions)[0] == pytest.approx(one.main.viable_ml, abs=1e-6)


def ball(centre, radius, side=40):
    grid = np.stack(np.mgrid[:side, :side, :side]).astype(float)
    return ((grid - np.array(centre).reshape(3, 1, 1, 1)) ** 2).sum(axis=0) <= radius**2


def test_diameters_and_classes_on_maps():
    liver = np.full((40, 40, 40), 255, dtype=np.uint8)
    first = ball((20, 20, 12), 6.2)
    lesion = first.astype(np.uint8)
    fractions = np.stack([first * 255, first * 0, first * 0]).astype(np.uint8)
    targets = targets_at_baseline(fractions, lesion, liver)
    # 13 pixels across and the corners of the squares: between 13 and 14 pixels of 2.25 mm.
    assert 13 * 2.25 < targets.sum_mm < 14 * 2.25
    smaller = np.stack([ball((20, 20, 12), 3.2) * 255, first * 255, first * 0]).astype(np.uint8)
    smaller[1][smaller[0] > 0] = 0
    found = response_on_map(targets, smaller, BaselineLesions.of(lesion).numbered(smaller), liver)
    assert found.mrecist is ResponseCategory.PR
    assert 7 * 2.25 < found.viable_mm < 8 * 2.25
    gone = np.zeros_like(fractions)
    numbers = BaselineLesions.of(lesion).numbered(gone)
    assert response_on_map(targets, gone, numbers, liver).mrecist is ResponseCategory.CR
    fresh = fractions | np.stack([ball((20, 20, 32), 4) * 255, first * 0, first * 0]).astype(np.uint8)
    numbers = BaselineLesions.of(lesion).numbered(fresh)
    assert set(np.unique(numbers)) == {0, 1, 2}
    assert response_on_map(targets, fresh, numbers, liver).mrecist is ResponseCategory.PD


def test_growth_belongs_to_its_lesion_and_specks_are_not_new():
    lesion = ball((20, 20, 12), 4).astype(np.uint8) + 2 * ball((20, 20, 28), 4).astype(np.uint8)
    grown = (ball((20, 20, 12), 6) | ball((20, 20, 28), 4) | ball((5, 5, 5), 1)) * np.uint8(255)
    numbers = BaselineLesions.of(lesion).numbered(np.stack([grown, grown * 0, grown * 0]))
    assert set(np.unique(numbers)) == {0, 1, 2}
    assert (numbers[ball((20, 20, 12), 6)] == 1).all()


def test_without_a_measurable_lesion_there_is_no_class():
    liver = np.full((20, 20, 20), 255, dtype=np.uint8)
    nothing = np.zeros((3, 20, 20, 20), dtype=np.uint8)
    targets = targets_at_baseline(nothing, nothing[0], liver)
    found = response_on_map(targets, nothing, nothing[0], liver)
    assert found.mrecist is ResponseCategory.NE
    assert np.isnan(found.viable_mm)


def test_the_grid_of_a_crop_points_to_the_head_the_back_and_the_left():
    grid = crop_grid((4, 5, 6))
    assert grid.spacing_mm == (2.25, 2.25, 2.25)
    np.testing.assert_allclose(grid.to_patient((1, 0, 0)), (0, 0, 2.25))
    np.testing.assert_allclose(grid.to_patient((0, 0, 1)), (2.25, 0, 0))


# ------------------------------------------------------------------ scores of a whole cohort


@pytest.fixture(scope="module")
def scored(cohort, rows, tmp_path_factory):
    context = prepare(cohort, PLAN, silent)
    forecasters = (*baseline_forecasters(rows, STREAMS), Perfect(cohort), Refusing())
    return run(cohort, context, forecasters, PLAN, tmp_path_factory.mktemp("work"), 1, silent)


def test_two_processes_find_the_same_as_one(cohort, rows, scored, tmp_path):
    context = prepare(cohort, PLAN, silent)
    forecasters = (*baseline_forecasters(rows, STREAMS), Perfect(cohort), Refusing())
    both = run(cohort, context, forecasters, PLAN, tmp_path, 2, silent)
    for name, frame in scored.frames.items():
        pd.testing.assert_frame_equal(both.frames[name], frame)
    assert both.not_answered == scored.not_answered
    np.testing.assert_array_equal(both.logistic, scored.logistic)


def test_patients_that_were_scored_are_not_asked_about_again(cohort, rows, tmp_path):
    context = prepare(cohort, PLAN, silent)
    first = run(cohort, context, [Perfect(cohort)], PLAN, tmp_path, 1, silent)
    kept = sorted(tmp_path.iterdir())
    kept[0].unlink()
    asked_now: list[str] = []
    again = run(cohort, context, [Perfect(cohort)], PLAN, tmp_path, 1, lambda text, _: asked_now.append(text))
    assert asked_now == [f"patient {len(kept)} of {len(kept)}", "done"]
    pd.testing.assert_frame_equal(again.frames["perfect"], first.frames["perfect"])
    np.testing.assert_array_equal(again.slices["perfect"], first.slices["perfect"])
    kept[0].write_bytes(b"half a file")
    with pytest.raises(TrainingDataError, match="damaged; remove"):
        run(cohort, context, [Perfect(cohort)], PLAN, tmp_path, 1, silent)


def test_a_perfect_forecast_has_no_errors(scored):
    frame = scored.frames["perfect"]
    for name in ("crps_pct", "error_pct", "diameter_error_mm", "difference_error_pct", "realised_error_pct"):
        np.testing.assert_allclose(frame[name], 0.0, atol=1e-9, err_msg=name)
    for name in ("lesion_mae", "single_mae", "voxel_crps"):
        np.testing.assert_allclose(frame[name], 0.0, err_msg=name)
    assert (frame["covered"] == 1).all()
    assert frame["predicted"].tolist() == [a.main.response for a in scored.asked]


def test_scalars_of_the_baseline_beat_the_climatology_where_they_decide(scored):
    crps = {name: frame["crps_pct"].mean() for name, frame in scored.frames.items()}
    assert crps["perfect"] < crps["ridge"] < 0.7 * crps["climatology"]
    assert crps["climatology"] < crps["regimen mean"]


def test_identity_has_the_error_of_doing_nothing(scored):
    frame = scored.frames["identity"]
    expected = [100 * abs(1 - a.main.viable_ml / a.baseline_viable_ml) for a in scored.asked]
    np.testing.assert_allclose(frame["crps_pct"], expected, rtol=1e-6)
    expected = [100 * abs(a.main.viable_ml - a.other.viable_ml) / a.baseline_viable_ml for a in scored.asked]
    np.testing.assert_allclose(frame["difference_error_pct"], expected, rtol=1e-6)


def test_a_forecaster_that_refuses_is_counted_and_has_no_scores(scored):
    again = sum(
        (a.landmark.regimen_id, a.landmark.months) != (a.main.regimen_id, a.main.months) for a in scored.asked
    )
    assert scored.not_answered["refusing"] == 12 + again
    assert scored.frames["refusing"]["crps_pct"].isna().all()
    assert (scored.frames["refusing"]["predicted"] == -1).all()


def test_virtual_follow_ups_that_are_true_give_the_risk_of_the_true_ones(scored):
    assert np.isfinite(scored.death[TRUE]).all()
    np.testing.assert_allclose(scored.death["perfect"], scored.death[TRUE])
    assert not np.allclose(scored.death[BASELINE], scored.death[TRUE])


# ------------------------------------------------------------------ adapters


@pytest.fixture(scope="module")
def tace():
    return {"tace": Regimen(id="tace", name="TACE", tace=({"day": 0},), source="test")}


def test_a_crop_becomes_a_study_of_the_same_voxels(cohort, asked):
    patient = cohort.images(asked[0].patient_id)
    baseline, segmentation = as_study(patient, cohort.info)
    np.testing.assert_array_equal(baseline.volumes[1].values(), patient.images[1])
    viable = segmentation.labels.tissue == Tissue.VIABLE
    assert viable.sum() == (patient.fractions[0] >= 128).sum()
    assert [lesion.number for lesion in segmentation.lesions] == [1]


def test_the_mechanistic_model_answers_on_a_crop(cohort, asked, tace):
    from inference.models.mechanistic import MechanisticGenerator

    one, known, _ = next(q for q in questions(cohort, asked) if q[0].main.regimen_id == "tace")
    forecaster = GeneratorForecaster("mechanistic", MechanisticGenerator.from_bundle(), tace, cohort.info)
    found = forecaster.forecast(known.question(one.main), 8, Detail.IMAGES, STREAMS)
    assert len(found.viable_ml) == 1
    assert found.change.shape == (1, *known.patient.images.shape)
    assert found.change.any()
    outside = known.patient.liver == 0
    assert not found.change[0][:, outside].any()
    other = replace(known.question(one.main), regimen_id="haic")
    with pytest.raises(UnsupportedRegimen, match="haic"):
        forecaster.forecast(other, 8, Detail.IMAGES, STREAMS)


def test_samples_of_the_learned_generator_are_courses_of_their_own_seeds(cohort, asked, tmp_path):
    bundle = describe(write_flow_bundle(tmp_path / "random", modalities=("CT",)))
    sampled, once = learned_forecasters(bundle, cohort.info, SCHEDULES)
    one, known, _ = next(q for q in questions(cohort, asked) if q[0].main.regimen_id == "tace")
    found = sampled.forecast(known.question(one.main), 3, Detail.IMAGES, STREAMS)
    assert len(set(found.viable_ml.tolist())) == 3
    np.testing.assert_allclose(found.viable_ml, found.requested_viable_ml, rtol=0.25, atol=0.1)
    assert len(once.forecast(known.question(one.main), 3, Detail.IMAGES, STREAMS).viable_ml) == 1
    stated = sampled.forecast(known.question(one.main), 3, Detail.SCALARS, STREAMS)
    np.testing.assert_allclose(stated.viable_ml, found.requested_viable_ml, rtol=1e-6)
    again = sampled.forecast(known.question(one.main), 3, Detail.IMAGES, STREAMS)
    np.testing.assert_array_equal(again.change, found.change)
    assert found.sampling is stated.sampling is Sampling.STRATIFIED


def test_redraws_of_the_simulator_are_an_oracle(cohort, asked, tmp_path):
    assert Redraws.of(tmp_path) is None
    one, known, _ = next(questions(cohort, asked))
    rows = [
        (one.patient_id, one.main.regimen_id, one.main.months, i, float(i), 0.0, 0.0, c)
        for i, c in enumerate(["CR", "PR", None])
    ]
    pd.DataFrame(rows, columns=REDRAW_COLUMNS).to_csv(tmp_path / REDRAWS, index=False)
    found = Redraws.of(tmp_path).forecast(known.question(one.main), 2, Detail.SCALARS, STREAMS)
    np.testing.assert_array_equal(found.viable_ml, [0.0, 1.0, 2.0])
    assert found.mrecist == (*CLASSES[:2], ResponseCategory.NE)
    with pytest.raises(ModelError, match="again"):
        Redraws.of(tmp_path).forecast(known.question(one.other), 8, Detail.SCALARS, STREAMS)
    (tmp_path / REDRAWS).write_text("patient_id,draw\n", encoding="utf-8")
    with pytest.raises(TrainingDataError, match="regimen_id"):
        Redraws.of(tmp_path)


# ------------------------------------------------------------------ from folders to tables


def blocks(slices: np.ndarray) -> np.ndarray:
    """Features that cost nothing: means of 4 x 4 pixels."""
    side = slices.shape[1] // 4
    return slices.reshape(len(slices), side, 4, side, 4).mean(axis=(2, 4)).reshape(len(slices), -1)


def test_what_the_first_cohort_came_to_is_written_before_the_second_is_asked(cohort, tmp_path):
    shifted = small_cohort(tmp_path / "shifted", patients=10, seed=3)

    def models(info):
        if info.sha256 != cohort.info.sha256:
            raise InferenceError("stopped")
        return (Perfect(cohort),)

    with pytest.raises(InferenceError, match="stopped"):
        evaluate_generator(
            (cohort.folder, shifted.folder),
            models,
            None,
            replace(PLAN, patients=8, image_samples=0),
            None,
            tmp_path / "out",
            1,
            silent,
        )
    text = (tmp_path / "out" / "generator.md").read_text(encoding="utf-8")
    assert text.count("## Cohort") == 1
    assert cohort.info.sha256[:16] in text


def test_two_cohorts_are_evaluated_and_written(cohort, tmp_path):
    shifted = small_cohort(tmp_path / "shifted", patients=10, seed=3)

    def models(info):
        return (Perfect(cohort if info.name == cohort.info.name else shifted),)

    evaluation = evaluate_generator(
        (cohort.folder, shifted.folder),
        models,
        None,
        replace(PLAN, patients=8),
        Extractor("blocks of pixels, 49 features", blocks),
        tmp_path / "out",
        1,
        silent,
    )
    held_out, external = evaluation.reports
    with pytest.raises(TrainingDataError, match="another evaluation"):
        claim(tmp_path / "out.work" / "1", {"plan": "another"})
    assert (held_out.patients, external.patients) == (8, 4)
    assert held_out.digest == cohort.info.sha256
    bars = {b.title: b for b in held_out.bars["perfect"]}
    first = bars["CRPS of viable volume against climatology"]
    assert (first.figure.value, first.met) == (-1.0, True)
    assert bars["coverage of the 80 % interval"].met is False  # 1.0 is not calibrated either
    assert bars["realised over requested viable volume"].met is True
    assert bars["lesion HU of the mean against one-step regression"].met is None
    assert held_out.table["perfect"]["kappa_quadratic"].value == 1.0
    assert set(held_out.per_regimen) <= set(REGIMENS)
    (overall,) = (r for r in held_out.rates if (r.forecaster, r.regimen_id) == ("perfect", ""))
    assert overall.objective_response.forecast == overall.objective_response.true
    assert overall.disease_control.difference.value == 0.0
    distances = {d.what: d for d in held_out.distances}
    assert distances["perfect"].fid == pytest.approx(0.0, abs=1e-9)
    assert distances["identity"].fid > 0
    assert "floor" in next(iter(distances))
    text = (tmp_path / "out" / "generator.md").read_text(encoding="utf-8")
    assert "blocks of pixels" in text, "a distance is never given without its extractor"
    assert "say nothing about real patients" in text
    assert f"| all | perfect | {overall.objective_response.true.n} |" in text
    data = json.loads((tmp_path / "out" / "generator.json").read_text(encoding="utf-8"))
    assert len(data["reports"]) == 2
    assert (tmp_path / "out" / "generator_2.png").is_file()
    assert not any(p in (tmp_path / "out" / "scores_1.csv").read_text(encoding="utf-8") for p in cohort.ids())
