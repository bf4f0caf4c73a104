from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from inference.bundle_store import BundleKind, describe
from inference.case import ClinicalRecord, ClinicalValue, Phase
from inference.errors import ModelError, UnsupportedRegimen
from inference.imaging.measurement import viable_ml
from inference.models.catalogue import load_model
from inference.models.flow.generator import Course, LearnedGenerator, PreparedLearned
from inference.models.flow.placement import draw_time_point
from inference.models.flow.rendering import Rendered, Scores
from inference.models.flow.sampler import Draw
from inference.models.flow.study import crop_study
from inference.models.outcome.model import OutcomeModel
from inference.models.protocols import Generator
from inference.randomness import RandomStreams
from inference.results import Baseline, GeneratedCourse, Segmentation, TimePointKind, Tissue
from inference.settings import PipelineSettings, Regimen
from tests.builders.flow_bundles import HAIC, TACE, TRIPLE, write_flow_bundle
from tests.builders.liver_volumes import baseline, segmented

CT = (Phase.PORTAL_VENOUS, Phase.ARTERIAL)
MR = (Phase.T1_ARTERIAL,)
TWO = ((0.0, -20.0, 0.0, 14.0), (0.0, 22.0, 6.0, 10.0))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flow_bundle(tmp_path_factory.mktemp("bundles") / "flow")


@pytest.fixture(scope="module")
def generator(bundle: Path) -> LearnedGenerator:
    return LearnedGenerator.from_bundle(bundle)


def course(
    generator: Generator,
    regimen: Regimen = TACE,
    shown: Segmentation | None = None,
    phases: tuple[Phase, ...] = CT,
    months: tuple[float, ...] = (3.0,),
    seed: int = 0,
    best: bool = False,
    clinical: ClinicalRecord | None = None,
    images: Baseline | None = None,
) -> GeneratedCourse:
    segmentation = shown or segmented(TWO)
    settings = PipelineSettings(regimens=(regimen,), months=months, best_response=best)
    return generator.generate(
        images or baseline(segmentation, phases),
        segmentation,
        clinical or ClinicalRecord(),
        regimen,
        settings,
        RandomStreams(seed),
    )


@pytest.fixture(scope="module")
def patient(generator: LearnedGenerator) -> PreparedLearned:
    shown = segmented(TWO)
    return generator.prepared(baseline(shown, CT), shown, RandomStreams(0))


def test_bundle_is_loaded_by_its_kind_and_format(bundle) -> None:
    assert describe(bundle).kind is BundleKind.GENERATOR
    model = load_model(bundle, BundleKind.GENERATOR)
    assert isinstance(model, LearnedGenerator)
    assert model.info.trained_on.startswith("simulated")


@pytest.mark.parametrize(("regimen", "phases"), [(TACE, CT), (HAIC, MR)], ids=["ct", "mr"])
def test_images_change_inside_the_liver_and_nowhere_else(generator, regimen, phases) -> None:
    shown = segmented(TWO)
    images = baseline(shown, phases)
    point = course(generator, regimen, shown, images=images).time_points[0]
    liver = np.zeros(images.primary.grid.shape, bool)
    liver[shown.labels.box.slices] = shown.labels.tissue > 0
    assert len(point.images) == len(phases)
    for image, volume in zip(point.images, images.volumes, strict=True):
        whole = volume.stored.copy()
        whole[image.box.slices] = image.stored
        changed = whole != volume.stored
        assert changed.any()
        assert not (changed & ~liver).any()
        assert image.stored.dtype == volume.stored.dtype
        assert 0 <= whole.min() <= whole.max() <= 4095
    assert np.array_equal(point.labels.tissue > 0, shown.labels.tissue > 0)


def test_same_seed_gives_the_same_bytes(bundle, generator) -> None:
    first, again = course(generator), course(LearnedGenerator.from_bundle(bundle))
    for a, b in zip(first.time_points[0].images, again.time_points[0].images, strict=True):
        assert a.stored.tobytes() == b.stored.tobytes()
    assert first.time_points[0].labels.lesion.tobytes() == again.time_points[0].labels.lesion.tobytes()
    assert first.trajectory == again.trajectory


def test_sampled_courses_differ_by_seed(patient) -> None:
    sampled = dataclasses.replace(patient.generator, course=Course.SAMPLED)
    same = dataclasses.replace(patient, generator=sampled)
    drawn = list(same.redrawn([RandomStreams(seed) for seed in range(4)]))
    assert len({course(d, months=()).trajectory[3].viable_ml for d in drawn}) == 4


def test_sampled_courses_of_two_regimens_share_their_noise(generator) -> None:
    sampled = dataclasses.replace(generator, course=Course.SAMPLED)
    shown = segmented(TWO)
    images = baseline(shown, CT)
    patient = sampled.prepared(images, shown, RandomStreams(0))
    drawn = list(patient.redrawn([RandomStreams(seed) for seed in range(8)]))
    tace, haic = (
        [course(d, r, shown, images=images, months=()).trajectory[3].viable_ml for d in drawn]
        for r in (TACE, HAIC)
    )
    assert np.corrcoef(tace, haic)[0, 1] > 0.8
    assert np.std(tace) > 0.05 * np.mean(tace)


def test_prepared_generator_gives_what_the_generator_gives(generator) -> None:
    shown = segmented(TWO)
    images = baseline(shown, CT)
    once = generator.prepared(images, shown, RandomStreams(3))
    assert once.info == generator.info
    for regimen in (TACE, TRIPLE):
        a = course(once, regimen, shown, seed=3, images=images)
        b = course(generator, regimen, shown, seed=3, images=images)
        assert a.trajectory == b.trajectory
        assert np.array_equal(a.time_points[0].images[0].stored, b.time_points[0].images[0].stored)


def test_redrawn_patient_is_the_patient_prepared_with_other_luck(generator) -> None:
    shown = segmented(TWO)
    images = baseline(shown, CT)
    sampled = dataclasses.replace(generator, course=Course.SAMPLED)
    (redrawn,) = sampled.prepared(images, shown, RandomStreams(1)).redrawn([RandomStreams(2)])
    a = course(redrawn, TACE, shown, seed=2, images=images)
    b = course(sampled, TACE, shown, seed=2, images=images)
    assert a.trajectory == b.trajectory
    assert np.array_equal(a.time_points[0].images[0].stored, b.time_points[0].images[0].stored)


def test_a_course_begins_with_the_tumour_that_was_segmented(generator) -> None:
    """Border voxels of the crop, which have no lesion number, are tumour too."""
    shown = segmented(TWO)
    images = baseline(shown, CT)
    first = course(generator, TACE, shown, images=images).trajectory[0]
    assert first.viable_ml == pytest.approx(viable_ml(shown.labels, images.primary.grid), rel=0.01)
    assert first.total_ml == pytest.approx(first.viable_ml)


@pytest.mark.parametrize("draw", list(Draw))
def test_maps_have_the_volume_of_the_trajectory(bundle, draw) -> None:
    generator = LearnedGenerator.from_bundle(bundle, draw=draw)
    shown = segmented(TWO)
    images = baseline(shown, CT)
    found = course(generator, TACE, shown, months=(1.0, 3.0, 6.0), images=images)
    stated = {p.months: p for p in found.trajectory}
    for point in found.time_points:
        volume = viable_ml(point.labels, images.primary.grid)
        asked = stated[point.months]
        assert volume == pytest.approx(asked.viable_ml, rel=0.05, abs=0.05)
        assert asked.viable_ml_interval80 == point.viable_ml_interval80
        low, high = point.viable_ml_interval80
        assert low <= asked.viable_ml <= high
        total = (point.labels.lesion > 0).sum() * images.primary.grid.voxel_ml
        assert total == pytest.approx(asked.total_ml, rel=0.05, abs=0.05)
        assert ((point.labels.tissue >= Tissue.VIABLE) == (point.labels.lesion > 0)).all()


def test_range_of_viable_tumour_has_the_volumes_of_the_interval_around_what_is_drawn(patient) -> None:
    point = course(patient, TACE, months=(6.0,)).time_points[0]
    extents = point.viable_range80
    drawn = (point.labels.tissue == Tissue.VIABLE)[extents.box.slices_in(point.labels.box)]
    assert drawn.sum() == (point.labels.tissue == Tissue.VIABLE).sum()
    assert not (extents.least & ~drawn).any()
    assert not (drawn & ~extents.most).any()
    liver = (point.labels.tissue > Tissue.BACKGROUND)[extents.box.slices_in(point.labels.box)]
    assert not (extents.most & ~liver).any()
    voxel_ml = patient.patient.study.primary.voxel_ml
    found = [mask.sum() * voxel_ml for mask in (extents.least, extents.most)]
    assert found == pytest.approx(point.viable_ml_interval80, rel=0.02, abs=0.1)


def test_each_lesion_keeps_its_number(generator) -> None:
    shown = segmented(TWO)
    labels = course(generator, TACE, shown).time_points[0].labels
    for number in (1, 2):
        before, after = shown.labels.lesion == number, labels.lesion == number
        assert (before & after).sum() > 0.8 * after.sum()


def test_less_is_left_under_the_stronger_regimen(patient) -> None:
    left = {r.id: course(patient, r, months=()).trajectory[3].viable_ml for r in (TACE, HAIC, TRIPLE)}
    assert left["tace_haic_tki_pd1"] < left["tace"] < left["haic"]


def test_best_response_is_the_month_of_least_viable_tumour(patient) -> None:
    found = course(patient, TRIPLE, months=(1.0,), best=True)
    points = {p.kind: p for p in found.time_points}
    best = points[TimePointKind.BEST_RESPONSE]
    least = min(found.trajectory[1:], key=lambda p: p.viable_ml)
    assert best.months == least.months
    assert [p.months for p in found.time_points] == sorted(p.months for p in found.time_points)


def test_images_are_computed_from_the_maps() -> None:
    """The left half of a tumour dies, the lower part of it under lipiodol: HU follow, and nothing else."""
    shown = segmented(((0.0, 0.0, 0.0, 22.0),))
    images = baseline(shown, CT)
    study = crop_study(images, shown)
    tumour = np.where(study.crop.lesion > 0, 20.0, -20.0).astype(np.float32)
    viable = np.broadcast_to(np.where(np.arange(96) < 48, 20.0, -20.0), tumour.shape).astype(np.float32)
    below = np.where(np.arange(96) < 48, 20.0, -20.0)[:, None, None]
    oil = np.broadcast_to(below, tumour.shape).astype(np.float32)
    levels = np.zeros((8, 96, 96, 96), np.float32)
    # Arterial and portal venous level of viable and dead tumour and lipiodol against liver, by 100 HU.
    levels[:6] = np.array([0.45, -0.25, -0.45, -0.75, 2.8, 2.5], np.float32)[:, None, None, None]
    rendered = Rendered(Scores(tumour, viable, oil, (study.crop.liver > 0.5).astype(np.uint8)), levels)
    drawn, labels = draw_time_point(images, shown, study, rendered)
    tissue = np.zeros(images.primary.grid.shape, np.uint8)
    tissue[labels.box.slices] = labels.tissue
    expected = {
        Phase.ARTERIAL: {Tissue.VIABLE: 0.0, Tissue.NECROSIS: -90.0, Tissue.LIPIODOL: 235.0},
        Phase.PORTAL_VENOUS: {Tissue.VIABLE: 0.0, Tissue.NECROSIS: -50.0, Tissue.LIPIODOL: 275.0},
    }
    for image, volume in zip(drawn, images.volumes, strict=True):
        change = np.zeros(volume.stored.shape)
        change[image.box.slices] = image.stored - volume.stored[image.box.slices]
        for found, hounsfield in expected[volume.phase].items():
            # At the edge between two tissues voxels of the study hold both.
            core = ndimage.binary_erosion(tissue == found, iterations=3)
            assert core.sum() > 25
            assert change[core] == pytest.approx(hounsfield, abs=1.0)
        assert not change[tissue == Tissue.BACKGROUND].any()


def test_clinical_values_matter_and_may_be_absent(patient) -> None:
    record = ClinicalRecord({"afp": ClinicalValue("afp", 20000.0, "ng/ml")})
    told, untold = course(patient, clinical=record, months=()), course(patient, months=())
    assert told.trajectory != untold.trajectory


def test_liver_without_tumour_stays_as_it_is(generator) -> None:
    shown = segmented(())
    images = baseline(shown, CT)
    found = course(generator, TACE, shown, images=images)
    point = found.time_points[0]
    assert np.array_equal(point.images[0].stored, images.primary.stored[point.images[0].box.slices])
    assert point.labels is shown.labels
    assert all(p.viable_ml == 0.0 for p in found.trajectory)


def test_tumour_that_is_all_necrosis_is_drawn_without_viable_tissue(generator) -> None:
    shown = segmented(((0.0, 0.0, 0.0, 15.0),), core_mm=99.0)
    point = course(generator, TACE, shown).time_points[0]
    assert not (point.labels.tissue == Tissue.VIABLE).any()


def test_regimen_month_or_modality_that_was_not_trained_is_refused(generator) -> None:
    other = TACE.model_copy(update={"id": "ablation", "name": "Ablation"})
    with pytest.raises(UnsupportedRegimen, match="Ablation"):
        course(generator, other)
    with pytest.raises(UnsupportedRegimen, match="6 months"):
        course(generator, months=(12.0,))
    only_ct = dataclasses.replace(generator, outcomes={"CT": generator.outcomes["CT"]})
    with pytest.raises(ModelError, match="MR"):
        course(only_ct, phases=MR)


def test_damaged_bundle_is_refused(tmp_path) -> None:
    folder = write_flow_bundle(tmp_path / "damaged", modalities=("CT",))
    weights = folder / "models" / "flow.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError):
        LearnedGenerator.from_bundle(folder)


def test_tumour_never_outgrows_the_liver(generator) -> None:
    """A tumour that fills the liver, under a model that expects it to grow a hundredfold."""
    shown = segmented(((0.0, 0.0, 0.0, 48.0),))
    images = baseline(shown, CT)
    model = generator.outcomes["CT"]
    arrays = {**model.arrays, "row_value": model.arrays["row_value"] + 4.6}
    growing = dataclasses.replace(generator, outcomes={"CT": OutcomeModel(model.settings, arrays)})
    found = course(growing, TACE, shown, months=(), images=images)
    liver_ml = float((shown.labels.tissue > 0).sum()) * images.primary.grid.voxel_ml
    assert all(p.total_ml <= 1.01 * liver_ml for p in found.trajectory)
    assert all(p.viable_ml_interval80[1] < liver_ml for p in found.trajectory)
