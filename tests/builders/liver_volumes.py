"""Baselines without files: a round liver with round tumours, as volumes and a segmentation."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from inference.case import Phase
from inference.results import (
    Baseline,
    Box,
    BundleInfo,
    Grid,
    Lesion,
    Segmentation,
    SeriesVolume,
    Tissue,
    TissueMap,
)

SHAPE = (36, 96, 96)
SPACING = (3.0, 1.5, 1.5)

Sphere = tuple[float, float, float, float]
"""Centre (z, y, x) in mm from the middle of the volume, and radius in mm."""

ONE_TUMOUR: tuple[Sphere, ...] = ((0.0, 0.0, 0.0, 18.0),)


def _radius_field(shape: tuple[int, int, int], centre: tuple[float, float, float]) -> np.ndarray:
    z, y, x = ((np.arange(n) - (n - 1) / 2.0) * s - c for n, s, c in zip(shape, SPACING, centre, strict=True))
    return np.sqrt(z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2)


def segmented(
    tumours: tuple[Sphere, ...] = ONE_TUMOUR,
    core_mm: float = 0.0,
    liver_mm: float = 52.0,
    shape: tuple[int, int, int] = SHAPE,
) -> Segmentation:
    """Return a liver with tumours; `core_mm` is the radius of necrosis in the first."""
    tissue = np.zeros(shape, np.uint8)
    lesion = np.zeros(shape, np.uint8)
    tissue[_radius_field(shape, (0.0, 0.0, 0.0)) < liver_mm] = Tissue.LIVER
    for number, (z, y, x, radius) in enumerate(tumours, start=1):
        distance = _radius_field(shape, (z, y, x))
        inside = (distance < radius) & (tissue > 0)
        tissue[inside], lesion[inside] = Tissue.VIABLE, number
        if number == 1:
            tissue[inside & (distance < core_mm)] = Tissue.NECROSIS
    found = [np.nonzero((tissue > 0).any(axis=tuple({0, 1, 2} - {a})))[0] for a in range(3)]
    box = Box(
        (int(found[0][0]), int(found[1][0]), int(found[2][0])),
        (int(found[0][-1]) + 1, int(found[1][-1]) + 1, int(found[2][-1]) + 1),
    )
    return Segmentation(
        labels=TissueMap(box, tissue[box.slices].copy(), lesion[box.slices].copy()),
        lesions=tuple(Lesion(n, f"L{n}") for n in range(1, len(tumours) + 1)),
        bundle=BundleInfo("reader", "1", "0", "real"),
        source_sop_instance_uid=None,
    )


_VALUES = {
    # phase: outside, liver, viable, necrosis, noise
    Phase.ARTERIAL: (-100.0, 75.0, 120.0, 30.0, 10.0),
    Phase.PORTAL_VENOUS: (-100.0, 110.0, 85.0, 30.0, 10.0),
    Phase.T1_ARTERIAL: (60.0, 400.0, 560.0, 200.0, 12.0),
}


def baseline(segmentation: Segmentation, phases: tuple[Phase, ...] = (Phase.PORTAL_VENOUS,)) -> Baseline:
    """Return volumes that show a segmentation, with a slope that differs between slices in MR."""
    volumes = tuple(_volume(segmentation, phase, index) for index, phase in enumerate(phases))
    return Baseline("1.2.3", volumes, ())


def _volume(segmentation: Segmentation, phase: Phase, index: int) -> SeriesVolume:
    box, shape = segmentation.labels.box, _shape_of(segmentation)
    outside, *levels, noise = _VALUES[phase]
    values = np.full(shape, outside)
    table = np.array([outside, levels[0], levels[1], levels[2], levels[2]])
    values[box.slices] = table[segmentation.labels.tissue]
    values = values + noise * np.random.default_rng(index).standard_normal(shape)
    is_mr = phase is Phase.T1_ARTERIAL
    slope = np.where(np.arange(shape[0]) % 2, 1.0, 0.5) if is_mr else np.ones(shape[0])
    intercept = np.zeros(shape[0]) if is_mr else np.full(shape[0], -1024.0)
    stored = np.rint((values - intercept[:, None, None]) / slope[:, None, None])
    header = Dataset()
    header.BitsStored, header.PixelRepresentation = 12, 0
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    affine[2, 0], affine[1, 1], affine[0, 2] = SPACING
    return SeriesVolume(
        series_instance_uid=f"1.2.3.{index}",
        modality="MR" if is_mr else "CT",
        phase=phase,
        phase_evidence="made",
        grid=Grid(shape, affine, "1.2.3.9"),
        stored=np.clip(stored, 0, 4095).astype(np.int32),
        slope=slope,
        intercept=intercept,
        headers=(header,) * shape[0],
    )


def _shape_of(segmentation: Segmentation) -> tuple[int, int, int]:
    stop = segmentation.labels.box.stop
    return (max(SHAPE[0], stop[0]), max(SHAPE[1], stop[1]), max(SHAPE[2], stop[2]))
