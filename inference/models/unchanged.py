"""A forecast without a change: what a generator returns where there is no tumour to treat."""

from __future__ import annotations

import numpy as np

from inference.results import (
    Baseline,
    Box,
    GeneratedCourse,
    GeneratedTimePoint,
    Segmentation,
    SeriesVolume,
    TimePointKind,
    TrajectoryPoint,
    VirtualImage,
)
from inference.settings import PipelineSettings, Regimen


def unchanged_image(volume: SeriesVolume, segmentation: Segmentation) -> VirtualImage:
    """Return a virtual image that is the baseline: a box of one voxel, with its own value."""
    start = segmentation.labels.box.start
    first = Box(start, (start[0] + 1, start[1] + 1, start[2] + 1))
    return VirtualImage(
        volume.series_instance_uid, volume.phase, first, np.array(volume.stored[first.slices])
    )


def without_tumour(
    baseline: Baseline,
    segmentation: Segmentation,
    regimen: Regimen,
    settings: PipelineSettings,
    horizon: int,
) -> GeneratedCourse:
    """Without a tumour nothing changes: the baseline at every scheduled time, no burden up to `horizon`."""
    images = tuple(unchanged_image(v, segmentation) for v in baseline.volumes)
    points = tuple(
        GeneratedTimePoint(m, TimePointKind.SCHEDULED, images, segmentation.labels, (0.0, 0.0))
        for m in settings.months
    )
    trajectory = tuple(TrajectoryPoint(float(m), 0.0, 0.0, (0.0, 0.0)) for m in range(horizon + 1))
    return GeneratedCourse(regimen.id, points, trajectory)
