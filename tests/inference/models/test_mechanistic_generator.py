from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from inference.case import ClinicalRecord, Phase
from inference.errors import UnsupportedRegimen
from inference.models.mechanistic import MechanisticGenerator
from inference.randomness import RandomStreams
from inference.results import GeneratedCourse, Segmentation, TimePointKind, Tissue
from inference.settings import PipelineSettings, Regimen, TaceSession
from tests.builders.liver_volumes import baseline, segmented

TACE = Regimen(id="tace", name="TACE", tace=(TaceSession(day=0), TaceSession(day=42)), source="test")
HAIC = Regimen(id="haic", name="HAIC", haic_days=(0, 21, 42, 63), source="test")
TACE_LENVATINIB = TACE.model_copy(update={"id": "tace_lenvatinib", "tki": 1.0})
UNTREATED = Regimen(id="untreated", name="Untreated", source="test")


@pytest.fixture(scope="module")
def generator() -> MechanisticGenerator:
    return MechanisticGenerator.from_bundle()


def course(
    generator: MechanisticGenerator,
    regimen: Regimen,
    segmentation: Segmentation | None = None,
    phases: tuple[Phase, ...] = (Phase.PORTAL_VENOUS,),
    months: tuple[float, ...] = (1.0, 3.0, 6.0),
    seed: int = 0,
) -> GeneratedCourse:
    shown = segmentation or segmented()
    settings = PipelineSettings(regimens=(regimen,), months=months)
    streams = RandomStreams(seed)
    images = baseline(shown, phases)
    return generator.generate(images, shown, ClinicalRecord(), regimen, settings, streams)


def viable_ml(labels_of_point, voxel_ml: float = 3.0 * 1.5 * 1.5 / 1000.0) -> float:
    return float((labels_of_point.tissue == Tissue.VIABLE).sum()) * voxel_ml


@pytest.mark.parametrize("regimen", [TACE, HAIC, UNTREATED], ids=lambda r: r.id)
@pytest.mark.parametrize(
    "phases", [(Phase.PORTAL_VENOUS, Phase.ARTERIAL), (Phase.T1_ARTERIAL,)], ids=["ct", "mr"]
)
def test_images_change_inside_the_liver_and_nowhere_else(generator, regimen, phases) -> None:
    shown = segmented(tumours=((0.0, 0.0, 0.0, 18.0), (0.0, 0.0, 38.0, 12.0)))
    images = baseline(shown, phases)
    liver = np.zeros(images.primary.stored.shape, bool)
    liver[shown.labels.box.slices] = shown.labels.tissue > 0
    for point in course(generator, regimen, shown, phases).time_points:
        assert [i.phase for i in point.images] == list(phases)
        for image, volume in zip(point.images, images.volumes, strict=True):
            before = volume.stored[image.box.slices]
            differs = image.stored != before
            assert differs.any()
            assert not (differs & ~liver[image.box.slices]).any()
            assert image.stored.dtype == np.int32
            assert image.stored.min() >= 0
            assert image.stored.max() <= 4095


def test_stored_values_stay_where_tissue_does(generator) -> None:
    shown = segmented()
    images = baseline(shown)
    point = course(generator, HAIC, shown).time_points[0]
    image = point.images[0]
    inner = tuple(
        slice(a - o, b - o)
        for a, b, o in zip(image.box.start, image.box.stop, shown.labels.box.start, strict=True)
    )
    same = point.labels.tissue[inner] == shown.labels.tissue[inner]
    from scipy import ndimage

    away = ndimage.binary_erosion(same, iterations=3)
    assert away.sum() > 1000
    assert np.array_equal(image.stored[away], images.primary.stored[image.box.slices][away])


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(generator) -> None:
    first, second, other = (course(generator, TACE, seed=s) for s in (3, 3, 4))
    for a, b in zip(first.time_points, second.time_points, strict=True):
        assert a.images[0].stored.tobytes() == b.images[0].stored.tobytes()
        assert a.labels.tissue.tobytes() == b.labels.tissue.tobytes()
    assert first.trajectory == second.trajectory
    assert first.time_points[0].images[0].stored.tobytes() != other.time_points[0].images[0].stored.tobytes()


def test_prepared_generator_gives_what_the_generator_gives(generator) -> None:
    shown = segmented()
    images, streams = baseline(shown), RandomStreams(0)
    settings = PipelineSettings(regimens=(TACE,))
    prepared = generator.prepared(images, shown, streams)
    a = prepared.generate(images, shown, ClinicalRecord(), TACE, settings, streams)
    b = course(generator, TACE, shown)
    assert a.trajectory == b.trajectory
    assert np.array_equal(a.time_points[-1].images[0].stored, b.time_points[-1].images[0].stored)


def test_latent_fields_are_those_of_the_patient_under_every_regimen(generator) -> None:
    same_treatment = TACE.model_copy(update={"id": "tace_systemic", "name": "other name"})
    a, b = course(generator, TACE), course(generator, same_treatment)
    assert [p.viable_ml for p in a.trajectory] == [p.viable_ml for p in b.trajectory]
    assert np.array_equal(a.time_points[0].images[0].stored, b.time_points[0].images[0].stored)


def test_untreated_tumour_doubles_in_the_doubling_time(generator) -> None:
    volumes = [p.viable_ml for p in course(generator, UNTREATED).trajectory]
    assert all(later > earlier for earlier, later in zip(volumes, volumes[1:], strict=False))
    doubled = np.interp(2.0 * volumes[0], volumes, np.arange(len(volumes)))
    # A front of constant speed needs 3 (2^(1/3) - 1) / ln 2 = 1.125 doubling times of its first day.
    assert doubled == pytest.approx(1.125 * 4.6, rel=0.12)


def test_untreated_course_has_no_best_response(generator) -> None:
    points = course(generator, UNTREATED).time_points
    assert [p.kind for p in points] == [TimePointKind.SCHEDULED] * 3


def test_best_response_is_the_month_of_least_viable_tumour(generator) -> None:
    drawn = course(generator, TACE, months=(1.0, 6.0))
    least = min(drawn.trajectory, key=lambda p: p.viable_ml)
    best = [p for p in drawn.time_points if p.kind is TimePointKind.BEST_RESPONSE]
    assert [p.months for p in best] == [least.months]
    again = course(generator, TACE, months=(1.0, least.months, 6.0))
    assert [p.kind for p in again.time_points] == [TimePointKind.SCHEDULED] * 3


def test_tace_leaves_lipiodol_in_dead_tumour_and_haic_does_not(generator) -> None:
    shown = segmented()
    images = baseline(shown)
    point = course(generator, TACE, shown).time_points[0]
    oil = point.labels.mask(Tissue.LIPIODOL)
    assert oil.sum() > 50
    # It lies in what was tumour, or has grown from it in the first month.
    assert (shown.labels.tissue[oil] == Tissue.VIABLE).mean() > 0.9
    full = np.array(images.primary.stored[shown.labels.box.slices])
    box = point.images[0].box
    inner = tuple(
        slice(a - o, b - o) for a, b, o in zip(box.start, box.stop, shown.labels.box.start, strict=True)
    )
    full[inner] = point.images[0].stored
    assert np.median(full[oil]) - 1024 > 110 + 60
    assert not course(generator, HAIC).time_points[0].labels.mask(Tissue.LIPIODOL).any()


def test_necrosis_is_dark_and_no_longer_viable(generator) -> None:
    shown = segmented()
    point = course(generator, HAIC, shown).time_points[1]
    dead = point.labels.mask(Tissue.NECROSIS)
    assert dead.sum() > 50
    box = point.images[0].box
    inner = tuple(
        slice(a - o, b - o) for a, b, o in zip(box.start, box.stop, shown.labels.box.start, strict=True)
    )
    values = point.images[0].stored[dead[inner]] - 1024
    assert 15 < np.median(values) < 50
    assert point.labels.lesion[dead].min() == 1


@pytest.mark.parametrize("regimen", [TACE, HAIC, UNTREATED], ids=lambda r: r.id)
def test_necrosis_of_the_baseline_stays(generator, regimen) -> None:
    shown = segmented(core_mm=9.0)
    old = shown.labels.tissue == Tissue.NECROSIS
    assert old.sum() > 100
    for point in course(generator, regimen, shown).time_points:
        assert (point.labels.tissue[old] == Tissue.NECROSIS).all()


def test_more_dose_leaves_less_viable_tumour(generator) -> None:
    def after_two_months(dose: float) -> float:
        regimen = TACE.model_copy(update={"tace": (TaceSession(day=0, dose=dose),)})
        return course(generator, regimen).trajectory[2].viable_ml

    left = [after_two_months(d) for d in (0.3, 1.0, 2.0)]
    assert left[0] > left[1] > left[2]


def test_a_second_component_leaves_less_viable_tumour(generator) -> None:
    alone, both = course(generator, TACE), course(generator, TACE_LENVATINIB)
    pairs = list(zip(alone.trajectory, both.trajectory, strict=True))[1:]
    assert all(b.viable_ml < a.viable_ml for a, b in pairs)


def test_interval_holds_what_is_drawn_and_the_trajectory_agrees_with_the_masks(generator) -> None:
    drawn = course(generator, TACE)
    for point in drawn.trajectory:
        low, high = point.viable_ml_interval80
        assert 0.0 <= low <= point.viable_ml <= high
        assert point.viable_ml <= point.total_ml + 1e-6
    by_month = {p.months: p for p in drawn.trajectory}
    for shown in drawn.time_points:
        assert viable_ml(shown.labels) == pytest.approx(by_month[shown.months].viable_ml, rel=0.08, abs=0.5)
    last = drawn.trajectory[6]
    assert last.viable_ml_interval80[1] > 1.3 * last.viable_ml_interval80[0]


def test_trajectory_reaches_as_far_as_the_months(generator) -> None:
    assert [p.months for p in course(generator, UNTREATED, months=(1.0,)).trajectory] == list(range(13))
    far = course(generator, UNTREATED, months=(1.0, 14.5))
    assert far.trajectory[-1].months == 15
    assert far.time_points[-1].months == 14.5


def test_regimen_that_the_bundle_does_not_list_is_refused(generator) -> None:
    with pytest.raises(UnsupportedRegimen, match="radioembolisation"):
        course(generator, UNTREATED.model_copy(update={"id": "radioembolisation"}))


def test_liver_without_tumour_stays_as_it_is(generator) -> None:
    shown = segmented(tumours=())
    drawn = course(generator, TACE, shown)
    assert [p.months for p in drawn.time_points] == [1.0, 3.0, 6.0]
    for point in drawn.time_points:
        image = point.images[0]
        assert np.array_equal(image.stored, baseline(shown).primary.stored[image.box.slices])
        assert point.viable_ml_interval80 == (0.0, 0.0)


def test_tumour_that_is_all_necrosis_is_drawn_without_viable_tissue(generator) -> None:
    drawn = course(generator, TACE, segmented(core_mm=99.0))
    assert all(viable_ml(p.labels) == 0.0 for p in drawn.time_points)


def test_calcification_survives_the_tumour(generator) -> None:
    shown = segmented()
    images = baseline(shown)
    stored = images.primary.stored.copy()
    stored[17:19, 46:50, 46:50] = 1024 + 600
    primary = dataclasses.replace(images.primary, stored=stored)
    dense = dataclasses.replace(images, volumes=(primary,))
    strong = TACE.model_copy(update={"tace": (TaceSession(day=0, dose=2.0),)})
    settings = PipelineSettings(regimens=(strong,), months=(1.0,), best_response=False)
    drawn = generator.generate(dense, shown, ClinicalRecord(), strong, settings, RandomStreams(0))
    image = drawn.time_points[0].images[0]
    at = tuple(
        slice(a - o, b - o) for a, b, o in zip((17, 46, 46), (19, 50, 50), image.box.start, strict=True)
    )
    assert image.stored[at].min() >= 1024 + 590
