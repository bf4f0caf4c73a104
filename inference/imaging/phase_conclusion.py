"""Contrast phases once the organs are known: their values decide where attributes and image did not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from inference.case import Phase
from inference.imaging.attributes import text
from inference.imaging.organ_values import OrganValues, box_values
from inference.imaging.phase import ContrastMeasurement, phase_from_hu
from inference.imaging.phase_evidence import (
    PhaseReader,
    SeriesEvidence,
    Settled,
    evidence_of,
    settle,
    with_image,
)
from inference.imaging.segmentations import Structure
from inference.results import Baseline, Region, RejectedSeries, Segmentation, SeriesVolume, Voxels

VESSEL_PERCENTILE = 98.0
CORTEX_PERCENTILE, MEDULLA_PERCENTILE = 85.0, 20.0
LEAST_COVERED = 0.98
"""Least share of the liver that a series on another grid must cover."""

LEAST_REGION_VOXELS = 30

_COLUMNS: Mapping[str, tuple[tuple[str, float], ...]] = {
    # Name of a region: columns of an organ table, and the percentile of each.
    "aorta": (("aorta", 50.0),),
    "portal vein": (("portal_vein", 50.0),),
    "vein": (("veins", 50.0),),
    "inferior vena cava": (("veins", 50.0),),
    "spleen": (("spleen", 50.0),),
    "kidney": (("kidney_high", CORTEX_PERCENTILE), ("kidney_low", MEDULLA_PERCENTILE)),
}


def conclude_phases(
    baseline: Baseline, segmentation: Segmentation, values: OrganValues, reader: PhaseReader | None = None
) -> Baseline:
    """Return the baseline with its phases as attributes and organ values tell them.

    Of several series that turn out to show one phase the first is kept. Series on other grids that do
    not cover the liver are left out.

    Parameters
    ----------
    reader : PhaseReader, optional
        Without it, CT series of unknown phase are concluded from limits of HU, and attributes stand.
    """
    covering, rejected = _covering(baseline, segmentation)
    warnings = list(baseline.warnings)
    if reader is None:
        named = [_by_limits(v, segmentation, values) for v in covering]
    else:
        named, new = _by_organs(covering, segmentation, values, reader)
        # What the image alone made of a series no longer holds where its organs were measured.
        told = {v.phase_evidence for v in named}
        stale = [v.phase_evidence for v in covering if v.phase_evidence not in told]
        warnings = [w for w in warnings if not w.endswith(tuple(stale))]
        warnings += [w for w in new if w not in warnings]
    volumes: list[SeriesVolume] = []
    for volume in named:
        if volume.phase is not Phase.UNKNOWN and any(v.phase is volume.phase for v in volumes):
            rejected.append(rejected_as_same_phase(volume))
        else:
            volumes.append(volume)
    return replace(
        baseline, volumes=tuple(volumes), rejected=(*baseline.rejected, *rejected), warnings=tuple(warnings)
    )


def with_settled(volume: SeriesVolume, settled: Settled) -> SeriesVolume:
    """Return a series with the phase that was settled."""
    return replace(volume, phase=settled.phase, phase_evidence=settled.evidence)


def rejection(volume: SeriesVolume, reason: str) -> RejectedSeries:
    """Return a decoded series as one that was not used, and why."""
    description = text(volume.headers[0], "SeriesDescription")
    return RejectedSeries(volume.series_instance_uid, volume.modality, description, reason)


def rejected_as_same_phase(volume: SeriesVolume) -> RejectedSeries:
    """Return a series as one that shows what another does."""
    return rejection(volume, f"shows the same phase as another series ({volume.phase_evidence})")


# ------------------------------------------------------------------ cover


def _covering(
    baseline: Baseline, segmentation: Segmentation
) -> tuple[list[SeriesVolume], list[RejectedSeries]]:
    organ = segmentation.labels.tissue > 0
    box = segmentation.labels.box.slices
    kept, rejected = [], []
    for volume in baseline.volumes:
        share = 1.0
        if volume.resampled is not None and organ.any():
            share = float(volume.resampled.covered[box][organ].mean())
        if share >= LEAST_COVERED:
            kept.append(volume)
        else:
            rejected.append(rejection(volume, f"covers {100 * share:.0f} % of the liver"))
    return kept, rejected


# ------------------------------------------------------------------ organs


def _by_organs(
    volumes: list[SeriesVolume], segmentation: Segmentation, values: OrganValues, reader: PhaseReader
) -> tuple[list[SeriesVolume], list[str]]:
    """Return the series with their phases, and what people must be told."""
    evidence = [_evidence(v, segmentation, values, reader) for v in volumes]
    settled = settle([e for e in evidence if e is not None])
    remaining = iter(settled)
    named = [
        v if e is None else with_settled(v, next(remaining)) for v, e in zip(volumes, evidence, strict=True)
    ]
    return named, [s.warning for s in settled if s.warning]


def _evidence(
    volume: SeriesVolume, segmentation: Segmentation, values: OrganValues, reader: PhaseReader
) -> SeriesEvidence | None:
    """Return what attributes and organs say; None where the organs say nothing and what is known stands."""
    evidence = evidence_of(volume.headers, volume.modality)
    if volume.modality == "MR" and evidence.attributes.phase is Phase.T2:
        return evidence
    organs = organ_table(volume, segmentation, values)
    seen = reader.from_organs(organs, volume.modality) if organs else None
    if seen is None:
        return None
    return with_image(evidence, seen, f"the values of its organs ({_words(organs, volume.modality)})")


def organ_table(volume: SeriesVolume, segmentation: Segmentation, values: OrganValues) -> dict[str, float]:
    """Return the values of one series by the columns of `phase_features.ORGANS`; empty without a liver."""
    liver = values.of(volume)[values.parenchyma]
    if not len(liver):
        return {}
    found = {
        "liver": float(np.median(liver)),
        "liver_vessels": float(np.percentile(liver, VESSEL_PERCENTILE)),
    }
    for region in segmentation.regions:
        columns = _COLUMNS.get(region.name, ())
        inside = _values_of(volume, region) if columns else np.zeros(0, np.float32)
        if len(inside) >= LEAST_REGION_VOXELS:
            found |= {column: float(np.percentile(inside, percent)) for column, percent in columns}
    return found


def _values_of(volume: SeriesVolume, region: Region) -> Voxels:
    inside = region.mask
    if volume.resampled is not None:
        inside = inside & volume.resampled.covered[region.box.slices]
    return np.asarray(box_values(volume, region.box.slices)[inside])


def _words(organs: Mapping[str, float], modality: str) -> str:
    unit = " HU" if modality == "CT" else ""
    names = {
        "liver_vessels": "vessels in the liver",
        "kidney_high": "kidney cortex",
        "kidney_low": "kidney medulla",
    }
    return ", ".join(f"{names.get(k, k.replace('_', ' '))} {v:.0f}{unit}" for k, v in organs.items())


# ------------------------------------------------------------------ limits of HU


def _by_limits(volume: SeriesVolume, segmentation: Segmentation, values: OrganValues) -> SeriesVolume:
    if volume.phase is not Phase.UNKNOWN or volume.modality != "CT":
        return volume
    finding = phase_from_hu(measure_contrast(volume, segmentation, values))
    return replace(volume, phase=finding.phase, phase_evidence=finding.evidence)


def measure_contrast(
    volume: SeriesVolume, segmentation: Segmentation, values: OrganValues
) -> ContrastMeasurement:
    """Measure the HU that tell the contrast phase by limits."""
    liver = values.of(volume)[values.parenchyma]
    if not len(liver):
        return ContrastMeasurement(float("nan"), float("nan"), {})
    known = {str(s) for s in Structure}
    return ContrastMeasurement(
        liver_hu=float(np.median(liver)),
        liver_vessels_hu=float(np.percentile(liver, VESSEL_PERCENTILE)),
        regions_hu={
            Structure(r.name): float(np.median(_values_of(volume, r)))
            for r in segmentation.regions
            if r.name in known and r.mask.any()
        },
    )
