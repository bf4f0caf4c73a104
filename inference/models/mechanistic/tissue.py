"""From the fields of a snapshot to sharp tissue maps on the patient's own grid."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from inference.models.mechanistic.evolution import Snapshot
from inference.models.mechanistic.parameters import MechanisticParameters
from inference.models.mechanistic.patient import Crop, Patient
from inference.results import Labels, Segmentation, Tissue, TissueMap, Voxels


def tissue_in_crop(crop: Crop, snapshot: Snapshot, parameters: MechanisticParameters) -> Labels:
    """Return the tissues (values of `Tissue`) in the crop's box at full resolution.

    The tumour's edge is the baseline's edge, moved; the border between viable and dead tissue is
    the level 1/2 of the viable share. A snapshot without change gives the baseline exactly.
    """
    if snapshot.step == 0:
        return crop.tissue.copy()
    # Held to the depths that the density can tell, so that tissue cleared to the core disappears.
    depth = np.clip(crop.depth, *parameters.depth_limits_mm)
    depth += crop.upsample(snapshot.depth_change)
    out = crop.tissue.copy()
    liver = crop.tissue > 0
    tumour = (depth > 0) & liver
    out[liver & ~tumour] = Tissue.LIVER
    dead = tumour & (crop.upsample(snapshot.viable) <= 0.5)
    out[tumour] = Tissue.VIABLE
    out[dead] = Tissue.NECROSIS
    if snapshot.lipiodol.any():
        # A deposit is one region: its grains are texture, not holes.
        smooth = ndimage.gaussian_filter(snapshot.lipiodol, 0.8)
        oil = crop.upsample(smooth) > parameters.lipiodol.visible
        out[dead & oil] = Tissue.LIPIODOL
    old = np.isin(crop.tissue, [Tissue.NECROSIS, Tissue.LIPIODOL])
    out[old] = crop.tissue[old]
    return out


def oil_in_crop(crop: Crop, snapshot: Snapshot, tissue: Labels) -> Voxels:
    """Return the lipiodol that shows, in typical deposits: what dead tissue retains.

    Living tissue washes its oil out within weeks, and dead tissue from before treatment took none up.
    """
    fresh = (tissue == Tissue.NECROSIS) | (tissue == Tissue.LIPIODOL)
    fresh &= ~np.isin(crop.tissue, [Tissue.NECROSIS, Tissue.LIPIODOL])
    return np.where(fresh, crop.upsample(snapshot.lipiodol), np.float32(0.0))


def whole_map(segmentation: Segmentation, crop: Crop, tissue: Labels) -> TissueMap:
    """Return the tissue map of the liver with the crop replaced."""
    labels = segmentation.labels
    origin = labels.box.start
    inner = tuple(slice(a - o, b - o) for a, b, o in zip(crop.box.start, crop.box.stop, origin, strict=True))
    new_tissue, new_lesion = labels.tissue.copy(), labels.lesion.copy()
    new_tissue[inner] = tissue
    new_lesion[inner] = np.where(tissue > Tissue.LIVER, crop.nearest, 0)
    return TissueMap(labels.box, new_tissue, new_lesion)


def volumes_ml(
    patient: Patient, snapshot: Snapshot, parameters: MechanisticParameters
) -> tuple[float, float]:
    """Return (viable, total) tumour volume of a snapshot, measured on the simulation grid.

    Voxels at the edge count in part. The result is scaled so that the baseline has the volume that
    its masks have at full resolution.
    """
    limits = parameters.depth_limits_mm
    viable, total = _soft_volumes(patient, snapshot.depth_change, snapshot.viable, limits)
    zero = np.zeros_like(snapshot.depth_change)
    start_viable, start_total = _soft_volumes(patient, zero, 1.0 - patient.fields.old_dead, limits)
    wanted_viable = sum(lesion.viable_ml for lesion in patient.lesions)
    wanted_total = sum(lesion.total_ml for lesion in patient.lesions)
    return (
        viable * wanted_viable / max(start_viable, 1e-9),
        total * wanted_total / max(start_total, 1e-9),
    )


def _soft_volumes(
    patient: Patient, depth_change: Voxels, viable: Voxels, limits: tuple[float, float]
) -> tuple[float, float]:
    fields = patient.fields
    depth = np.clip(fields.depth, *limits) + depth_change
    inside = np.clip(0.5 + depth / fields.spacing_mm, 0.0, 1.0) * fields.operator.inside
    alive = np.clip(0.5 + 3.0 * (viable - 0.5), 0.0, 1.0)
    ml = fields.spacing_mm**3 / 1000.0
    return float((inside * alive).sum()) * ml, float(inside.sum()) * ml
