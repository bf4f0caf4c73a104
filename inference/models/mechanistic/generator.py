"""The generator behind the seam: one patient prepared once, one course for each regimen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.bundle_store import load_metadata, read_parameters
from inference.case import ClinicalRecord
from inference.models.mechanistic.appearance import Palette, draw, palette
from inference.models.mechanistic.ensemble import (
    SampledPatients,
    TissueSample,
    interval80,
    sample_patients,
    sample_tissue,
    viable_course,
)
from inference.models.mechanistic.evolution import Snapshot, evolve
from inference.models.mechanistic.exposure import Plan, plan
from inference.models.mechanistic.parameters import Calibrated, MechanisticParameters
from inference.models.mechanistic.patient import Patient, prepare
from inference.models.mechanistic.tissue import oil_in_crop, tissue_in_crop, volumes_ml, whole_map
from inference.models.unchanged import without_tumour
from inference.randomness import RandomStreams
from inference.results import (
    Baseline,
    BundleInfo,
    FloatArray,
    GeneratedCourse,
    GeneratedTimePoint,
    Segmentation,
    TimePointKind,
    TrajectoryPoint,
)
from inference.settings import PipelineSettings, Regimen

Interval = tuple[FloatArray, FloatArray]


@dataclass(frozen=True, slots=True)
class MechanisticGenerator:
    """Draws the expected course of the median patient with this baseline, under one regimen."""

    info: BundleInfo
    parameters: MechanisticParameters

    @classmethod
    def from_bundle(cls, name_or_path: str | Path = "mechanistic") -> MechanisticGenerator:
        """Read a verified bundle.

        Raises
        ------
        ModelError
            The bundle is damaged, or its parameters are not valid.
        """
        info, _ = load_metadata(name_or_path)
        fixed = read_parameters(name_or_path, "parameters.yaml", MechanisticParameters)
        return cls(info, fixed.calibrated(read_parameters(name_or_path, "calibrated.json", Calibrated)))

    def prepared(
        self, baseline: Baseline, segmentation: Segmentation, streams: RandomStreams
    ) -> PreparedGenerator:
        """Return a generator for this patient alone that has done what all regimens share."""
        own = RandomStreams(int(streams.derive("mechanistic").integers(2**62)))
        patient = prepare(baseline.primary.grid, segmentation, self.parameters, own)
        if patient is None:
            return PreparedGenerator(self.info, self.parameters, None, (), None, None)
        palettes = tuple(palette(v, patient.crop, self.parameters, own) for v in baseline.volumes)
        sampled = sample_patients(self.parameters, own)
        liver_ml = float(np.count_nonzero(segmentation.labels.tissue)) * patient.crop.voxel_ml
        tissue = sample_tissue(patient, liver_ml)
        return PreparedGenerator(self.info, self.parameters, patient, palettes, tissue, sampled)

    def generate(
        self,
        baseline: Baseline,
        segmentation: Segmentation,
        clinical: ClinicalRecord,
        regimen: Regimen,
        settings: PipelineSettings,
        streams: RandomStreams,
    ) -> GeneratedCourse:
        """Return the course under one regimen; see `PreparedGenerator.generate`."""
        prepared = self.prepared(baseline, segmentation, streams)
        return prepared.generate(baseline, segmentation, clinical, regimen, settings, streams)


@dataclass(frozen=True, slots=True)
class PreparedGenerator:
    """A generator that holds one patient; `palettes` has one entry for each series."""

    info: BundleInfo
    parameters: MechanisticParameters
    patient: Patient | None
    palettes: tuple[Palette, ...]
    tissue: TissueSample | None
    sampled: SampledPatients | None

    def generate(
        self,
        baseline: Baseline,
        segmentation: Segmentation,
        clinical: ClinicalRecord,
        regimen: Regimen,
        settings: PipelineSettings,
        streams: RandomStreams,
    ) -> GeneratedCourse:
        """Return scheduled time points, the best response, and the monthly trajectory.

        The time of best response is the month of the trajectory with the least viable tumour. It
        becomes a time point of its own unless it is a scheduled one already, or the tumour is never
        smaller than at baseline (then there is no response to show).

        Raises
        ------
        UnsupportedRegimen
            The bundle has no parameters for this regimen.
        """
        horizon = max(math.ceil(max((0.0, *settings.months))), self.parameters.numerics.horizon_months)
        steps = plan(regimen, self.parameters, horizon)
        if self.patient is None or self.tissue is None or self.sampled is None:
            return without_tumour(baseline, segmentation, regimen, settings, horizon)
        per_month = self.parameters.numerics.steps_per_month
        scheduled = {month: round(month * per_month) for month in settings.months}
        monthly = [month * per_month for month in range(horizon + 1)]
        keep = sorted({*monthly, *scheduled.values()})
        snapshots = dict(zip(keep, evolve(self.patient.fields, steps, self.parameters, keep), strict=True))
        volumes = {step: volumes_ml(self.patient, snapshots[step], self.parameters) for step in keep}
        course = viable_course(self.tissue, self.sampled, steps, self.parameters)
        low, high = interval80(course[:, keep], [volumes[step][0] for step in keep])
        limits = {step: (float(a), float(b)) for step, a, b in zip(keep, low, high, strict=True)}

        wanted = [(month, step, TimePointKind.SCHEDULED) for month, step in scheduled.items()]
        best = min(monthly[1:], key=lambda step: (volumes[step][0], step))
        if settings.best_response and best not in scheduled.values() and volumes[best][0] < volumes[0][0]:
            wanted.append((best / per_month, best, TimePointKind.BEST_RESPONSE))
        points = tuple(
            self._time_point(segmentation, snapshots[step], month, kind, limits[step], steps)
            for month, step, kind in sorted(wanted)
        )
        trajectory = tuple(
            TrajectoryPoint(float(m), volumes[s][0], volumes[s][1], limits[s]) for m, s in enumerate(monthly)
        )
        return GeneratedCourse(regimen.id, points, trajectory)

    def _time_point(
        self,
        segmentation: Segmentation,
        snapshot: Snapshot,
        months: float,
        kind: TimePointKind,
        limits: tuple[float, float],
        steps: Plan,
    ) -> GeneratedTimePoint:
        assert self.patient is not None  # generate() returned before
        crop = self.patient.crop
        tissue = tissue_in_crop(crop, snapshot, self.parameters)
        oil = oil_in_crop(crop, snapshot, tissue) if steps.deposits.any() else None
        images = tuple(draw(p, crop, tissue, oil) for p in self.palettes)
        labels = whole_map(segmentation, crop, tissue)
        return GeneratedTimePoint(months, kind, images, labels, limits)
