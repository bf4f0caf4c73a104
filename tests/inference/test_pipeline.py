"""All stages in one, with the shipped models on a small study."""

import logging
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from pydicom.dataset import Dataset

from inference.bundle_store import BundleKind
from inference.case import Case, Instance, Phase, Series
from inference.errors import (
    RejectedInput,
    ReviewNeeded,
    SegmentationMissing,
    UnsupportedRegimen,
)
from inference.imaging.reading import read_case
from inference.models.angiography import ENCODER
from inference.models.catalogue import default_folders
from inference.models.evidence import NOTHING_MORE, Evidence, EvidenceWanted
from inference.models.image_features.describer import StudyDescriber
from inference.models.protocols import SurvivalModel
from inference.models.seg_in_study import SegInStudy
from inference.pipeline import Bundles, run
from inference.randomness import RandomStreams
from inference.results import (
    AssessedPatient,
    BundleInfo,
    NotAssessed,
    OpinionValue,
    Reason,
    SecondOpinion,
    StudyResults,
    Survival,
    Tissue,
)
from inference.settings import PipelineSettings, Regimen, TaceSession
from tests.builders.angiographies import run as run_of_vessel
from tests.builders.angiographies import write_run
from tests.builders.image_encoders import write_small_encoder
from tests.builders.studies import Phantom, write_study

PHANTOM = Phantom(shape=(24, 64, 64), spacing_mm=(5.0, 5.0, 5.0))
TACE = Regimen(id="tace", name="TACE", tace=(TaceSession(day=0),), source="test")
UNTRAINED = Regimen(id="sirt", name="SIRT", source="test")
HAIC = Regimen(id="haic", name="HAIC", haic_days=(0, 21), source="test")
SETTINGS = PipelineSettings(regimens=(TACE, HAIC), months=(1.0, 3.0), best_response=False)
STAGES = ("load", "segment", "respond", "generate", "check", "survive", "compare", "consult")


@pytest.fixture(scope="module")
def bundles() -> Bundles:
    return Bundles.shipped()


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return read_case(write_study(tmp_path_factory.mktemp("study") / "s", phantom=PHANTOM))


@pytest.fixture(scope="module")
def results(case, bundles) -> StudyResults:
    return run(case, SETTINGS, bundles, RandomStreams(0), lambda text, share: None)


def test_every_regimen_has_its_time_points(results):
    assert [f.regimen_id for f in results.forecasts] == ["tace", "haic"]
    for forecast in results.forecasts:
        assert [p.generated.months for p in forecast.time_points] == [1.0, 3.0]
        assert len(forecast.trajectory) > 0


def test_the_arterial_phase_makes_mrecist_possible(results):
    assert {v.phase for v in results.baseline.volumes} == {Phase.ARTERIAL, Phase.PORTAL_VENOUS}
    assert not isinstance(results.forecasts[0].time_points[0].mrecist, NotAssessed)


def test_stored_values_change_only_inside_the_liver(results):
    labels = results.segmentation.labels
    liver = np.zeros(results.baseline.primary.grid.shape, dtype=bool)
    liver[labels.box.slices] = labels.tissue != Tissue.BACKGROUND
    by_uid = {v.series_instance_uid: v.stored for v in results.baseline.volumes}
    changed = 0
    for forecast in results.forecasts:
        for point in forecast.time_points:
            for image in point.generated.images:
                before = by_uid[image.series_instance_uid][image.box.slices]
                differs = image.stored != before
                changed += int(differs.sum())
                assert not (differs & ~liver[image.box.slices]).any()
    assert changed > 0


def test_what_cannot_be_known_is_not_assessed(results):
    haic = results.forecasts[1].survival.os
    assert isinstance(haic, NotAssessed)
    assert haic.reason is Reason.REGIMEN_NOT_COVERED
    assert isinstance(results.comparison, NotAssessed)
    assert results.demonstration


def test_timings_and_bundles_are_recorded(results, bundles):
    assert tuple(results.timings_s) == STAGES
    assert set(results.bundles) == {"segmenter", "phase", "generator", "survival"}
    segmenter = results.segmentation.bundle
    assert results.bundles == {**bundles.infos(), "segmenter": segmenter}
    assert segmenter.name == "segmentation in the study"


def test_the_same_seed_gives_the_same_results(case, bundles, results):
    again = run(case, SETTINGS, bundles, RandomStreams(0), lambda text, share: None)
    for one, two in zip(results.forecasts, again.forecasts, strict=True):
        for a, b in zip(one.time_points, two.time_points, strict=True):
            assert np.array_equal(a.generated.labels.tissue, b.generated.labels.tissue)
            for x, y in zip(a.generated.images, b.generated.images, strict=True):
                assert np.array_equal(x.stored, y.stored)
            assert (a.recist11, a.mrecist, a.lesions) == (b.recist11, b.mrecist, b.lesions)


def test_a_regimen_is_forecast_the_same_without_the_others(case, bundles, results):
    alone = run(case, replace_regimens(HAIC), bundles, RandomStreams(0), lambda text, share: None)
    for a, b in zip(results.forecasts[1].time_points, alone.forecasts[0].time_points, strict=True):
        assert np.array_equal(a.generated.images[0].stored, b.generated.images[0].stored)


def replace_regimens(*regimens: Regimen) -> PipelineSettings:
    return SETTINGS.model_copy(update={"regimens": regimens})


def test_a_regimen_that_was_not_trained_is_alone_not_assessed(case, bundles, results, caplog):
    asked = replace_regimens(TACE, UNTRAINED, HAIC)
    with caplog.at_level(logging.INFO):
        found = run(case, asked, bundles, RandomStreams(0), lambda text, share: None)
    tace, refused, haic = found.forecasts
    assert refused.not_assessed is not None
    assert refused.not_assessed.reason is Reason.REGIMEN_NOT_COVERED
    assert (refused.regimen_id, refused.name) == ("sirt", "SIRT")
    assert (refused.time_points, refused.trajectory) == ((), ())
    assert isinstance(refused.survival.os, NotAssessed)
    for alone, beside in zip(results.forecasts, (tace, haic), strict=True):
        assert beside.not_assessed is None
        assert beside.trajectory == alone.trajectory
        assert beside.survival == alone.survival
        for a, b in zip(alone.time_points, beside.time_points, strict=True):
            assert np.array_equal(a.generated.images[0].stored, b.generated.images[0].stored)
            assert (a.recist11, a.mrecist, a.lesions) == (b.recist11, b.mrecist, b.lesions)
    assert isinstance(found.comparison, NotAssessed)
    assert f"SIRT was not forecast: {refused.not_assessed.detail}" in found.comparison.detail
    header = found.baseline.primary.headers[0]
    assert "the regimen sirt is not assessed" in caplog.text
    assert str(header.PatientName) not in caplog.text
    assert str(header.PatientID) not in caplog.text


def test_where_no_regimen_was_trained_the_study_is_refused(case, bundles):
    with pytest.raises(UnsupportedRegimen, match="(?i)the regimen sirt"):
        run(case, replace_regimens(UNTRAINED), bundles, RandomStreams(0), lambda text, share: None)


@dataclass
class Recording:
    """A survival model that takes image vectors and keeps what it was given."""

    inner: SurvivalModel
    wants: EvidenceWanted
    given: dict[str, Evidence] = field(default_factory=dict)

    @property
    def info(self) -> BundleInfo:
        return self.inner.info

    def predict(self, clinical, lesions, regimen, evidence=NOTHING_MORE) -> Survival:
        self.given[regimen.id] = evidence
        return self.inner.predict(clinical, lesions, regimen)


@dataclass(frozen=True)
class Says:
    """A second reader that says how many lesions it was shown."""

    info: BundleInfo = BundleInfo("counts", "1", "c" * 64, "simulated: n=40")

    def opinions(self, patient: AssessedPatient, regimens: tuple[Regimen, ...]) -> tuple[SecondOpinion, ...]:
        values = (OpinionValue("lesions", float(len(patient.lesions))),)
        return (SecondOpinion("counts", self.info, "Lesions.", None, values),)


def test_image_vectors_reach_the_survival_model_and_second_readers_are_heard(case, bundles, tmp_path) -> None:
    describer = StudyDescriber.from_bundle(write_small_encoder(tmp_path / "encoder"))
    wants = EvidenceWanted(image_encoder=describer.info.sha256, angiogram_encoder=ENCODER)
    model = Recording(bundles.survival, wants)
    asked = replace_regimens(TACE).model_copy(update={"months": (3.0,)})
    served = replace(bundles, survival=model, image_vectors=describer, second_readers=(Says(),))
    angiography = Series("2.25.9", "XA", (Instance(write_run(tmp_path, run_of_vessel(0.6)), Dataset()),))
    case = replace(case, series=(*case.series, angiography))
    found = run(case, asked, served, RandomStreams(0), lambda text, share: None)
    runs = model.given["tace"].angiographies
    assert runs is not None
    assert (runs.encoder, len(runs.vectors)) == (ENCODER, 1)
    seen = model.given["tace"].images
    assert seen is not None
    assert seen.months.tolist() == [0.0, 3.0]
    assert seen.vectors.shape == (2, 256)
    assert not found.notes
    assert [o.system for o in found.second_opinions] == ["counts"]
    assert found.second_opinions[0].values == (OpinionValue("lesions", float(len(found.baseline_lesions))),)
    assert found.bundles["image_vectors"] == describer.info
    assert found.bundles["second_opinion 1 counts"].trained_on == "simulated: n=40"


def test_two_second_readers_of_one_name_are_both_told(bundles) -> None:
    one, other = Says(), Says(BundleInfo("counts", "2", "d" * 64, "simulated: n=80"))
    infos = replace(bundles, second_readers=(one, other)).infos()
    assert [infos[f"second_opinion {n} counts"] for n in (1, 2)] == [one.info, other.info]


def test_an_image_encoder_is_loaded_only_for_a_model_that_takes_its_vectors(tmp_path) -> None:
    folders = {**default_folders(), BundleKind.IMAGE_VECTORS: write_small_encoder(tmp_path / "encoder")}
    assert Bundles.load(folders).image_vectors is None
    assert "image_vectors" not in Bundles.load(folders).infos()


def test_progress_rises_to_the_end(case, bundles):
    heard: list[float] = []
    run(case, replace_regimens(TACE), bundles, RandomStreams(0), lambda text, share: heard.append(share))
    assert heard == sorted(heard)
    assert 0 <= heard[0] <= heard[-1] <= 1


def test_where_only_people_segment_a_study_without_it_is_refused_undecoded(case, bundles, tmp_path):
    by_people = replace(bundles, segmenter=SegInStudy())
    without = replace(case, series=tuple(s for s in case.series if s.modality != "SEG"))
    gone = tuple(
        replace(s, instances=tuple(replace(i, path=tmp_path / "gone.dcm") for i in s.instances))
        for s in without.series
    )
    with pytest.raises(SegmentationMissing, match="no liver segmentation in the study"):
        run(replace(without, series=gone), SETTINGS, by_people, RandomStreams(0), lambda text, share: None)


def test_what_the_default_segmenter_makes_of_a_phantom_waits_for_a_person(case, bundles):
    without = replace(case, series=tuple(s for s in case.series if s.modality != "SEG"))
    with pytest.raises(ReviewNeeded, match="synthetic images alone.*uncertain"):
        run(without, SETTINGS, bundles, RandomStreams(0), lambda text, share: None)


def test_a_study_without_images_is_refused(case, bundles):
    only_seg = replace(case, series=tuple(s for s in case.series if s.modality == "SEG"))
    with pytest.raises(RejectedInput, match="no image series"):
        run(only_seg, SETTINGS, bundles, RandomStreams(0), lambda text, share: None)


def test_real_ct_is_forecast(needs_data, bundles):
    settings = SETTINGS.model_copy(update={"regimens": (TACE,), "months": (3.0,)})
    case = read_case(needs_data("ircad17"))
    found = run(case, settings, bundles, RandomStreams(0), lambda text, share: None)
    assert [x.volume_ml for x in found.baseline_lesions] == pytest.approx([85.6, 78.6], abs=0.1)
    assert found.baseline.primary.phase is Phase.PORTAL_VENOUS
    mrecist = found.forecasts[0].time_points[0].mrecist
    assert isinstance(mrecist, NotAssessed)
    assert mrecist.reason is Reason.PHASE_MISSING
