"""Missing and wrong descriptions: the images say what the series are, from loading to segmentation."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from inference.case import Phase
from inference.imaging.phase_features import CT_PHASES, MR_PHASES
from inference.imaging.reading import read_case
from inference.models.seg_in_study import SegInStudy
from inference.results import Baseline, BundleInfo
from inference.settings import SegmentationLimits
from inference.stages.load import load
from inference.stages.segment import segment
from inference.stages.selection import select
from tests.builders.studies import (
    WITH_VESSELS,
    Phantom,
    SegSpec,
    SeriesSpec,
    image,
    slice_headers,
    write_seg,
    write_series,
)

PHANTOM = Phantom(shape=(20, 64, 64), spacing_mm=(6.0, 5.0, 5.0))
N, A, P, D = CT_PHASES


class Oracle:
    """Knows the phantoms by their aorta, as a reader of images; says nothing of organs."""

    info = BundleInfo("oracle", "1", "0", "simulated")

    def __init__(self, share: float = 0.995) -> None:
        self.share = share

    def from_image(self, values, grid, modality) -> Mapping[Phase, float] | None:
        phases = CT_PHASES if modality == "CT" else MR_PHASES
        aorta = float(np.median(values[PHANTOM.masks["aorta"]]))
        levels = (
            {42: N, 290: A, 150: P, 105: D}
            if modality == "CT"
            else {250: phases[0], 900: phases[1], 700: phases[2]}
        )
        seen = levels[min(levels, key=lambda level: abs(level - aorta))]
        return {p: self.share if p is seen else (1 - self.share) / (len(phases) - 1) for p in phases}

    def from_organs(self, organs, modality) -> Mapping[Phase, float] | None:
        return None


def study(
    folder: Path, described: list[tuple[str, str]], modality: str = "CT", seg: str = "", **spec
) -> Path:
    """Write series as (true phase, description); a SEG on the series of one phase."""
    for k, (phase, description) in enumerate(described, 1):
        written = SeriesSpec(phase=phase, modality=modality, number=k, description=description, **spec)
        write_series(folder / f"{k}", written, image(PHANTOM, phase), PHANTOM.spacing_mm)
        if phase == seg:
            sources = slice_headers(written, PHANTOM.shape, PHANTOM.spacing_mm)
            write_seg(folder / "seg.dcm", sources, PHANTOM, SegSpec())
    return folder


def loaded(folder: Path, share: float = 0.995) -> Baseline:
    return load(select(read_case(folder)), Oracle(share))


def true_aorta(baseline: Baseline) -> dict[Phase, int]:
    return {
        v.phase: round(float(np.median(v.values()[PHANTOM.masks["aorta"]])) / 10) * 10
        for v in baseline.volumes
    }


def test_without_any_description_all_phases_are_told_and_the_portal_venous_is_primary(tmp_path):
    described = [(p, "Abd 3.0") for p in ("native", "arterial", "portal_venous", "delayed")]
    baseline = loaded(study(tmp_path, described))
    assert [v.phase for v in baseline.volumes] == [P, A, D, N]
    assert all("By the image" in v.phase_evidence for v in baseline.volumes)
    assert baseline.warnings == ()


def test_a_series_that_a_segmentation_was_drawn_on_stays_primary(tmp_path):
    described = [("native", ""), ("arterial", ""), ("portal_venous", "")]
    assert loaded(study(tmp_path, described, seg="arterial")).primary.phase is A


def test_swapped_descriptions_are_put_right_with_a_warning(tmp_path):
    described = [("arterial", "portal venous"), ("portal_venous", "arterial")]
    baseline = loaded(study(tmp_path, described))
    assert true_aorta(baseline) == {P: 150, A: 290}
    assert sum("not what its attributes say" in w for w in baseline.warnings) == 2


def test_an_image_that_is_not_sure_leaves_the_phase_unknown_and_says_so(tmp_path):
    baseline = loaded(study(tmp_path, [("arterial", "portal venous")]), share=0.93)
    assert baseline.primary.phase is Phase.UNKNOWN
    assert "do not agree" in baseline.primary.phase_evidence
    assert "could not be told" in baseline.warnings[0]


def test_an_image_that_knows_nothing_leaves_the_description_alone(tmp_path):
    baseline = loaded(study(tmp_path, [("arterial", "portal venous")]), share=0.25)
    assert baseline.primary.phase is P


def test_two_series_of_one_phase_are_told_apart_from_another_acquisition(tmp_path):
    """Both are called arterial; one is portal venous, and would have been left out by its number."""
    described = [("arterial", "arterial"), ("portal_venous", "arterial")]
    folder = study(tmp_path, described)
    without = load(select(read_case(folder)))
    assert [v.phase for v in without.volumes] == [A]
    baseline = loaded(folder)
    assert true_aorta(baseline) == {P: 150, A: 290}
    assert any("Another acquisition was taken" in w for w in baseline.warnings)
    assert baseline.rejected == ()


def test_of_two_series_that_show_one_phase_one_is_kept_with_the_reason_for_the_other(tmp_path):
    described = [("portal_venous", "portal venous"), ("portal_venous", "Abd")]
    folder = tmp_path
    for k, (phase, description) in enumerate(described, 1):
        spec = SeriesSpec(phase=phase, name=f"s{k}", number=k, description=description)
        write_series(folder / f"{k}", spec, image(PHANTOM, phase), PHANTOM.spacing_mm)
    baseline = loaded(folder)
    assert [v.phase for v in baseline.volumes] == [P]
    assert [(r.description, "same phase" in r.reason) for r in baseline.rejected] == [("Abd", True)]


@pytest.mark.parametrize("described", ["", "t1_vibe"])
def test_mr_dynamic_series_without_phases(tmp_path, described):
    phases = [(p, described) for p in ("t1", "t1_arterial", "t1_portal_venous")]
    baseline = loaded(study(tmp_path, phases, modality="MR"))
    assert [v.phase for v in baseline.volumes] == [Phase.T1_PORTAL_VENOUS, Phase.T1_ARTERIAL, Phase.T1]


class OrganReader(Oracle):
    """Tells the phase from the values of organs only."""

    def from_image(self, values, grid, modality) -> Mapping[Phase, float] | None:
        return None

    def from_organs(self, organs, modality) -> Mapping[Phase, float] | None:
        seen = A if organs["aorta"] > 200 else P
        assert {"liver", "liver_vessels", "aorta", "portal_vein", "kidney_high", "kidney_low"} == set(organs)
        return {p: 0.997 if p is seen else 0.001 for p in CT_PHASES}


def test_organ_values_decide_once_they_are_known(tmp_path):
    described = [("arterial", "portal venous"), ("portal_venous", "")]
    for k, (phase, description) in enumerate(described, 1):
        spec = SeriesSpec(phase=phase, number=k, description=description)
        write_series(tmp_path / f"{k}", spec, image(PHANTOM, phase), PHANTOM.spacing_mm)
    sources = slice_headers(spec, PHANTOM.shape, PHANTOM.spacing_mm)
    write_seg(tmp_path / "seg.dcm", sources, PHANTOM, WITH_VESSELS)
    case, reader = read_case(tmp_path), OrganReader()
    baseline = load(select(case), reader)
    assert {v.phase for v in baseline.volumes} == {P, Phase.UNKNOWN}
    found = segment(case, baseline, SegInStudy(), SegmentationLimits(), reader=reader).baseline
    assert true_aorta(found) == {P: 150, A: 290}
    assert any("aorta 290 HU" in w or "aorta 29" in w for w in found.warnings)
