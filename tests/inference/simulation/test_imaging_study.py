from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy import ndimage

from inference.case import Phase
from inference.imaging.reading import read_case
from inference.models.seg_in_study import SegInStudy
from inference.randomness import RandomStreams
from inference.results import Box, Tissue
from inference.settings import SegmentationLimits
from inference.simulation.acquisition import Protocol, Scanner, draw_protocols
from inference.simulation.anatomy import LIVER_CENTRE_MM, STUDY_CENTRE_MM, Anatomy, build_anatomy
from inference.simulation.dicom_study import study_uid, write_imaging_study
from inference.simulation.disease import TumourState
from inference.simulation.displacement import Displacement, Motion, draw_displacement
from inference.simulation.habitus import Habitus
from inference.simulation.imaging_study import ImagingStudy, Subject, Visit, acquire_study, state_on
from inference.simulation.patient import TYPICAL
from inference.stages.load import load
from inference.stages.segment import segment
from inference.stages.selection import select

SHAPE = (30, 84, 100)
STEP = (6.0, 4.0, 4.0)
SUBJECT = Subject("SIM-000041", "F", 58)
BASELINE = dt.datetime(2026, 1, 5, 9, 30, tzinfo=dt.UTC)
LATER = dt.datetime(2026, 4, 9, 14, 0, tzinfo=dt.UTC)
MOVED = Displacement((5.0, 2.0, -3.0), 2.0, 2.0, seed=7)


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return build_anatomy(SHAPE, STEP, np.random.default_rng(2), Habitus(), STUDY_CENTRE_MM)


def tumour(anatomy: Anatomy, radius_mm: float, treated: float = 0.0) -> TumourState:
    """One tumour, its middle dead and covered with lipiodol up to the share `treated` of the radius."""
    z, y, x = np.unravel_index(int(anatomy.liver_depth.argmax()), anatomy.labels.shape)
    field = anatomy.field
    away = np.sqrt(
        (field.z - field.z.flat[z]) ** 2 + (field.y - field.y.flat[y]) ** 2 + (field.x - field.x.flat[x]) ** 2
    )
    total = (np.clip(0.5 + (radius_mm - away) / 4.0, 0.0, 1.0) * anatomy.liver).astype(np.float32)
    dead = np.where(away < treated * radius_mm, total, 0.0).astype(np.float32)
    shape = anatomy.labels.shape
    return TumourState(
        months=0.0,
        box=Box((0, 0, 0), (shape[0], shape[1], shape[2])),
        viable=total - dead,
        necrosis=dead,
        lipiodol=np.where(field.x > field.x.flat[x], dead, 0.0).astype(np.float32),
        vascularity=np.ones_like(total),
        thrombus=np.zeros_like(total),
        lesion=(total > 0.5).astype(np.uint8),
    )


def study(
    anatomy: Anatomy, state: TumourState, when: dt.datetime, phases: tuple[Phase, ...], where: Displacement
) -> ImagingStudy:
    protocols = draw_protocols(phases, Scanner.STANDARD, np.random.default_rng(1))
    visit = Visit(when, protocols, RandomStreams(11), where)
    return acquire_study(SUBJECT, visit, anatomy, state, TYPICAL)


CT = (Phase.ARTERIAL, Phase.PORTAL_VENOUS)
MR = (Phase.T1_ARTERIAL, Phase.T1_PORTAL_VENOUS, Phase.T2)


@pytest.fixture(scope="module")
def studies(anatomy) -> dict[str, ImagingStudy]:
    return {
        "baseline": study(anatomy, tumour(anatomy, 30.0), BASELINE, CT, Displacement()),
        "later": study(anatomy, tumour(anatomy, 26.0, 0.7), LATER, CT, MOVED),
        "mr": study(anatomy, tumour(anatomy, 30.0), BASELINE, MR, Displacement()),
    }


@pytest.fixture(scope="module")
def folders(studies, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("studies")
    for name, made in studies.items():
        write_imaging_study(made, root / name)
    return {name: root / name for name in studies}


def headers(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(p, stop_before_pixels=True) for p in sorted(folder.rglob("*.dcm"))]


def test_visits_are_studies_of_one_patient_with_their_own_frames(folders, studies) -> None:
    found = {name: headers(folder) for name, folder in folders.items()}
    everything = [h for hs in found.values() for h in hs]
    assert {h.PatientID for h in everything} == {"SIM-000041"}
    assert {h.PatientSex for h in everything} == {"F"}
    assert len({h.SOPInstanceUID for h in everything}) == len(everything)
    for name, hs in found.items():
        assert {h.StudyInstanceUID for h in hs} == {study_uid(studies[name])}
        assert len({h.FrameOfReferenceUID for h in hs}) == 1
    assert len({hs[0].FrameOfReferenceUID for hs in found.values()}) == 3
    assert {h.StudyDate for h in found["later"]} == {"20260409"}


def test_a_lesion_keeps_its_tracking_uid(folders) -> None:
    def tracked(name: str) -> dict[str, str]:
        ds = pydicom.dcmread(folders[name] / "seg.dcm", stop_before_pixels=True)
        return {s.SegmentLabel: s.TrackingUID for s in ds.SegmentSequence}

    first, second = tracked("baseline"), tracked("later")
    assert first["Tumour 1"] == second["Tumour 1"]
    assert "Lipiodol" in second
    assert "Lipiodol" not in first


def test_writing_again_gives_the_same_bytes(studies, folders, tmp_path) -> None:
    write_imaging_study(studies["later"], tmp_path)
    for path in sorted(folders["later"].rglob("*.dcm")):
        assert path.read_bytes() == (tmp_path / path.relative_to(folders["later"])).read_bytes()


@pytest.mark.parametrize(("name", "phases"), [("baseline", CT), ("later", CT), ("mr", MR)])
def test_pipeline_reads_a_visit(studies, folders, name, phases) -> None:
    made = studies[name]
    case = read_case(folders[name])
    baseline = load(select(case))
    assert {v.phase for v in baseline.volumes} == set(phases)
    for volume in baseline.volumes:
        stored = np.clip(made.volumes[volume.phase], -1024 if name != "mr" else 0, None)
        assert np.array_equal(volume.values(), stored)
        assert np.allclose(volume.grid.affine, made.affine, atol=1e-3)
    _, found = segment(case, baseline, SegInStudy(), SegmentationLimits())
    lesion = np.zeros(SHAPE, np.uint8)
    tissue = np.zeros(SHAPE, np.uint8)
    lesion[found.labels.box.slices] = found.labels.lesion
    tissue[found.labels.box.slices] = found.labels.tissue
    truth = {s.label: s.mask for s in made.segments}
    assert np.array_equal(lesion > 0, truth["Tumour 1"])
    if name == "later":
        assert np.array_equal(tissue == Tissue.LIPIODOL, truth["Lipiodol"])
        assert np.array_equal(tissue == Tissue.NECROSIS, truth["Necrosis"])


def test_necrosis_and_lipiodol_are_inside_the_tumour(studies) -> None:
    truth = {s.label: s.mask for s in studies["later"].segments}
    assert truth["Lipiodol"].any()
    assert truth["Necrosis"].any()
    assert not (truth["Lipiodol"] & truth["Necrosis"]).any()
    assert not ((truth["Lipiodol"] | truth["Necrosis"]) & ~truth["Tumour 1"]).any()
    assert not (truth["Tumour 1"] & ~truth["Liver"]).any()


def test_ct_and_mr_are_two_studies(anatomy) -> None:
    with pytest.raises(ValueError, match="one modality"):
        study(anatomy, tumour(anatomy, 30.0), BASELINE, (Phase.ARTERIAL, Phase.T2), Displacement())


def test_displacement_moves_image_and_truth_alike(anatomy) -> None:
    state = tumour(anatomy, 30.0)
    shift = Displacement((6.0, 8.0, -4.0))
    protocols = {Phase.NATIVE: Protocol(Phase.NATIVE, noise=0.0)}
    still, moved = (
        acquire_study(SUBJECT, Visit(BASELINE, protocols, RandomStreams(1), d), anatomy, state, TYPICAL)
        for d in (Displacement(), shift)
    )
    # One slice, two rows and one column to the patient's right.
    inner = (slice(4, -4), slice(4, -4), slice(4, -4))
    back = np.roll(moved.volumes[Phase.NATIVE], (-1, -2, 1), (0, 1, 2))
    assert np.abs(back - still.volumes[Phase.NATIVE])[inner].max() <= 1
    for one, two in zip(still.segments, moved.segments, strict=True):
        assert one.label == two.label
        assert (np.roll(two.mask, (-1, -2, 1), (0, 1, 2)) ^ one.mask)[inner].sum() == 0


def test_turn_is_about_the_long_axis_and_elastic_is_small(anatomy) -> None:
    mask = (anatomy.liver > 0.5).astype(np.float32)
    turned = Motion(Displacement(turn_deg=10.0), anatomy.field, anatomy.step_mm)(mask)
    middle = [np.array(ndimage.center_of_mass(m)) * STEP for m in (mask, turned)]
    assert abs(middle[0][0] - middle[1][0]) < 1.0
    assert np.linalg.norm(middle[0] - middle[1]) > 3.0
    assert turned.sum() == pytest.approx(mask.sum(), rel=0.05)
    drawn = draw_displacement(np.random.default_rng(3))
    assert not drawn.is_none
    assert drawn == draw_displacement(np.random.default_rng(3))


def test_tumours_keep_their_volume_on_another_grid_of_the_same_person() -> None:
    def build(shape: tuple[int, int, int], step: tuple[float, float, float], centre) -> Anatomy:
        return build_anatomy(shape, step, np.random.default_rng(9), Habitus(), centre)

    crop = build((54, 54, 54), (4.0, 4.0, 4.0), LIVER_CENTRE_MM)
    whole = build((45, 128, 128), (4.0, 2.9, 2.9), STUDY_CENTRE_MM)
    state = tumour(crop, 25.0, 0.5)
    there = state_on(state, crop, whole)
    assert there.viable.shape == there.box.shape
    for name in ("viable", "necrosis", "lipiodol"):
        before, after = getattr(state, name).sum() * 64.0, getattr(there, name).sum() * 4.0 * 2.9**2
        assert after == pytest.approx(before, rel=0.03)
    full = np.zeros(whole.labels.shape, bool)
    full[there.box.slices] = there.lesion == 1
    middle = ndimage.center_of_mass(full)
    place = [
        float(np.interp(m, np.arange(a.size), a.ravel()))
        for m, a in zip(middle, (whole.field.z, whole.field.y, whole.field.x), strict=True)
    ]
    origin = ndimage.center_of_mass(state.lesion == 1)
    wanted = [
        float(np.interp(m, np.arange(a.size), a.ravel()))
        for m, a in zip(origin, (crop.field.z, crop.field.y, crop.field.x), strict=True)
    ]
    assert np.allclose(place, wanted, atol=1.0)


def test_objects_are_valid(folders, needs_judge) -> None:
    import subprocess

    dciodvfy = needs_judge("dciodvfy")
    for path in ("later/seg.dcm", "later/arterial/0003.dcm", "mr/t2/0003.dcm", "mr/t1_arterial/0003.dcm"):
        folder, _, rest = path.partition("/")
        said = subprocess.run(
            [dciodvfy, str(folders[folder] / rest)], capture_output=True, text=True, check=False
        )
        assert "Error" not in said.stderr + said.stdout, said.stderr
