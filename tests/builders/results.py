"""A small forecast without models: a phantom with two phases, two regimens, and refusals.

Everything is deterministic and quick; the numbers mean nothing.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from inference.case import ClinicalRecord, ClinicalValue, Phase
from inference.clinical.nomogram import Nomogram, NomogramFile, Predictor
from inference.clinical.summary import summarise
from inference.comparison.results import (
    EValue,
    GlobalTests,
    HiddenConfounding,
    Interval,
    PairBenefit,
    RegimenComparison,
    RegimenEstimate,
)
from inference.comparison.rule import ComparisonRule
from inference.imaging.measurement import measure_lesions, viable_ml
from inference.provenance import MANUFACTURER
from inference.results import (
    Baseline,
    Box,
    BundleInfo,
    Comparison,
    GeneratedTimePoint,
    Grid,
    Lesion,
    NotAssessed,
    OpinionNomogram,
    OpinionPicture,
    OpinionValue,
    Reason,
    RegimenForecast,
    Response,
    ResponseCategory,
    SecondOpinion,
    Segmentation,
    SeriesVolume,
    StudyResults,
    Survival,
    SurvivalCurve,
    TimePoint,
    TimePointKind,
    Tissue,
    TissueMap,
    TrajectoryPoint,
    ViableRange,
    VirtualImage,
)
from reporting.context import Context, Equipment
from reporting.uids import Uids
from tests.builders.studies import Phantom, SeriesSpec, Sphere, image, slice_headers, uid

PHANTOM = Phantom(
    shape=(24, 128, 128),
    spacing_mm=(5.0, 3.6, 3.6),
    tumours=(Sphere((60.0, 150.0, 110.0), 22.0, core_mm=9.0), Sphere((75.0, 150.0, 165.0), 12.0)),
)
PHASES = ("arterial", "portal_venous")
JOB_TIME = datetime(2026, 3, 2, 8, 30, tzinfo=UTC)


def context(key: str = "test", job_time: datetime = JOB_TIME) -> Context:
    """Return what builders are given besides results."""
    return Context(job_time, Uids(key), Equipment(MANUFACTURER, "Hepatocast node", "0.1.0", "1"))


def results(modality: str = "CT", phases: tuple[str, ...] = PHASES) -> StudyResults:
    """Return a forecast of two regimens; the first has survival curves, the second has refusals."""
    volumes = tuple(_volume(phase, k, modality) for k, phase in enumerate(phases, 1))
    baseline = Baseline(volumes[0].headers[0].StudyInstanceUID, volumes, (), ("The liver reaches the edge.",))
    segmentation = Segmentation(
        labels=tissue_map(1.0),
        lesions=(Lesion(1, "L1", uid("tracking", 1)), Lesion(2, "L2")),
        bundle=_BUNDLES["segmenter"],
        source_sop_instance_uid=None,
        warnings=("Tumour denser than 220 HU was taken as lipiodol.",),
    )
    lesions = measure_lesions(segmentation.labels, baseline.primary.grid, (1, 2))
    clinical = ClinicalRecord(
        {"age": ClinicalValue("age", 63.0, "years"), "afp": ClinicalValue("afp", 210.0, "ng/mL")}
    )
    arterial = Phase.ARTERIAL in {v.phase for v in volumes}
    return StudyResults(
        baseline=baseline,
        segmentation=segmentation,
        baseline_lesions=lesions,
        clinical=summarise(clinical),
        forecasts=(
            _forecast(baseline, "tace", "TACE", 0.8, arterial, Survival(_CURVE, _NO_PFS, _SHORT_CURVE)),
            _forecast(baseline, "haic", "HAIC", 0.9, arterial, _NOTHING_COVERED),
        ),
        comparison=NotAssessed(
            Reason.COMPARISON_NOT_SUPPORTED, "The regimens cannot be compared: only one of 2 is covered."
        ),
        bundles=_BUNDLES,
        seed=7,
        timings_s={"load": 0.5, "generate": 2.0},
    )


def with_comparison(found: StudyResults) -> StudyResults:
    """Return the same forecast in which the regimens could be compared."""
    return replace(
        found,
        comparison=Comparison("tace", 4.5, 0.83, ("longer expected survival", "limits overlap"), True),
    )


def with_regimens_compared(found: StudyResults) -> StudyResults:
    """Return the same forecast with all of a comparison: one preferred, one with too few deaths."""
    few = NotAssessed(Reason.TOO_FEW_EVENTS, "Under tace_systemic, 8 deaths were seen; 30 are needed.")
    behind = RegimenComparison(
        regimens=(
            _compared("tace", 14.0),
            _compared("haic", 22.0),
            RegimenEstimate("tace_systemic", 30, 8, None, 20.0, few, few),
        ),
        pairs=(_pair("tace", "haic", -8.0), _pair("haic", "tace", 8.0)),
        tests=GlobalTests(0.001, 0.2),
        rule=ComparisonRule(),
        recommended="haic",
        against="tace",
        benefit_months=8.0,
        confidence=0.91,
        reasons=(few,),
        notes=("Held against patients of one cohort.",),
    )
    said = Comparison("haic", 8.0, 0.91, (few.detail, *behind.notes), True)
    info = BundleInfo("compared", "1.0.0", "d" * 64, "simulated: three regimens")
    return replace(
        found, comparison=said, regimen_comparison=behind, bundles={**found.bundles, "comparison": info}
    )


def _compared(regimen_id: str, months: float) -> RegimenEstimate:
    median = Interval(months, months - 3.0, months + 4.0)
    return RegimenEstimate(regimen_id, 200, 120, 0.4, 40.0, median, Interval(18.0, 16.0, 20.0))


def _pair(first: str, second: str, months: float) -> PairBenefit:
    hidden = HiddenConfounding(2.0, 0.4, months - 5.0, 0.3)
    return PairBenefit(
        first,
        second,
        Interval(months, months - 4.0, months + 4.0),
        Interval(2.0, 1.0, 3.0),
        0.91 if months > 0 else 0.005,
        EValue(0.6, 2.7, 1.9),
        (hidden,),
    )


def with_second_opinions(found: StudyResults) -> StudyResults:
    """Return the same forecast with three opinions: numbers with a picture, a nomogram, and a refusal."""
    line = Predictor(
        name="afp_400", label="AFP 400 ng/ml or more", beta=0.8, low=0, high=1, levels={"no": 0.0, "yes": 1.0}
    )
    size = Predictor(name="diameter", label="Largest diameter", unit="mm", beta=0.01, low=20, high=150)
    file = NomogramFile(
        endpoint="pfs", predictors=(line, size), times=(6.0, 12.0, 30.0), hazard=(0.1, 0.3, 0.6)
    )
    nomogram = Nomogram(file)
    scored = nomogram.score({"afp_400": 1.0, "diameter": 80.0})
    info = BundleInfo("other system", "2", "e" * 64, "real: 300 patients")
    values = (
        OpinionValue("objective response", 0.613, "1", (0.5, 0.7)),
        OpinionValue("group", "Maintain"),
        OpinionValue("tumour volume", 42.5, "mL"),
    )
    stripes = np.zeros((300, 400, 3), dtype=np.uint8)
    stripes[::20] = 255
    about = "Probability of response; made for TACE."
    points = (OpinionValue("total points", scored.total, "{points}"),)
    refusal = NotAssessed(Reason.MODEL_FAILED, "The system failed (ValueError).")
    unknown = BundleInfo("broken", "unknown", "", "unknown")
    return replace(
        found,
        second_opinions=(
            SecondOpinion("delicaite", info, about, "tace", values, (OpinionPicture("Attention", stripes),)),
            SecondOpinion(
                "nomogram", info, "Points.", None, points, nomogram=OpinionNomogram("PFS", nomogram, scored)
            ),
            SecondOpinion("broken", unknown, "A second opinion.", None, refusal),
        ),
    )


REFUSED_REGIMEN = "SIRT"
REFUSAL = NotAssessed(
    Reason.REGIMEN_NOT_COVERED, f"the generator was not trained on the regimen {REFUSED_REGIMEN}."
)


def with_refused_regimen(found: StudyResults) -> StudyResults:
    """Return the same forecast asked for one more regimen, which the generator does not cover."""
    refused = RegimenForecast("sirt", REFUSED_REGIMEN, (), (), _NOTHING_COVERED, REFUSAL)
    return replace(found, forecasts=(*found.forecasts, refused))


def tissue_map(scale: float, lipiodol: bool = False) -> TissueMap:
    """Return the phantom's tissues with tumours scaled by `scale`."""
    masks = PHANTOM.masks
    tissue = np.zeros(PHANTOM.shape, np.uint8)
    lesion = np.zeros(PHANTOM.shape, np.uint8)
    tissue[masks["liver"]] = Tissue.LIVER
    for number, tumour in enumerate(PHANTOM.tumours, 1):
        inside = PHANTOM.sphere(tumour, tumour.radius_mm * scale) & masks["liver"]
        tissue[inside], lesion[inside] = Tissue.VIABLE, number
        if tumour.core_mm:
            core = PHANTOM.sphere(tumour, tumour.core_mm) & inside
            tissue[core] = Tissue.LIPIODOL if lipiodol else Tissue.NECROSIS
    where = [np.nonzero((tissue > 0).any(axis=tuple({0, 1, 2} - {a})))[0] for a in range(3)]
    z, y, x = ((int(w[0]), int(w[-1]) + 1) for w in where)
    box = Box((z[0], y[0], x[0]), (z[1], y[1], x[1]))
    return TissueMap(box, tissue[box.slices].copy(), lesion[box.slices].copy())


# ------------------------------------------------------------------ parts

_BUNDLES = {
    "segmenter": BundleInfo("segmentation in the study", "1", "a" * 64, "not trained: drawn by a reader"),
    "generator": BundleInfo("mechanistic", "0.1.0", "b" * 64, "mechanistic"),
    "survival": BundleInfo("cox_hcc_tace_seg", "1.0.0", "c" * 64, "real: HCC-TACE-Seg, n 105, events 93"),
}
_NOT_COVERED = NotAssessed(Reason.REGIMEN_NOT_COVERED, "The survival model says nothing about HAIC.")
_NOTHING_COVERED = Survival(_NOT_COVERED, _NOT_COVERED, _NOT_COVERED)
_NO_PFS = NotAssessed(Reason.ENDPOINT_NOT_COVERED, "The fitted patients have no progression-free survival.")


def _curve(rate: float, last: int, median: float | None, rmst36: float | None) -> SurvivalCurve:
    months = tuple(float(m) for m in range(last + 1))
    survival = tuple(float(np.exp(-rate * m)) for m in months)
    lower = tuple(float(np.exp(-1.4 * rate * m)) for m in months)
    upper = tuple(float(np.exp(-0.7 * rate * m)) for m in months)
    at = {m: (survival[m], lower[m], upper[m]) for m in (12, 24, 36) if m <= last}
    return SurvivalCurve(months, survival, lower, upper, at, median, rmst36, 0.42, "high")


_CURVE = _curve(0.03, 48, 23.1, 21.7)
_SHORT_CURVE = _curve(0.01, 24, None, None)


def _volume(phase: str, number: int, modality: str) -> SeriesVolume:
    spec = SeriesSpec(phase=phase, modality=modality, number=number, study="results")
    values = image(PHANTOM, phase)
    intercept = spec.intercept if modality == "CT" else 0.0
    z, y, x = PHANTOM.spacing_mm
    affine = np.array(
        [
            [0.0, 0.0, x, spec.origin_mm[0]],
            [0.0, y, 0.0, spec.origin_mm[1]],
            [z, 0.0, 0.0, spec.origin_mm[2]],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )
    slices = PHANTOM.shape[0]
    headers = tuple(slice_headers(spec, PHANTOM.shape, PHANTOM.spacing_mm))
    return SeriesVolume(
        series_instance_uid=spec.series_uid,
        modality=modality,
        phase=Phase(phase),
        phase_evidence="Series Description says so.",
        grid=Grid(PHANTOM.shape, affine, str(headers[0].FrameOfReferenceUID)),
        stored=values.astype(np.int32) - int(intercept),
        slope=np.ones(slices),
        intercept=np.full(slices, intercept),
        headers=headers,
    )


def _forecast(
    baseline: Baseline, regimen_id: str, name: str, shrink: float, arterial: bool, survival: Survival
) -> RegimenForecast:
    plan = (
        (1.0, TimePointKind.SCHEDULED, shrink),
        (2.5, TimePointKind.BEST_RESPONSE, shrink * 0.8),
        (6.0, TimePointKind.SCHEDULED, shrink * 0.95),
    )
    before = viable_ml(tissue_map(1.0), baseline.primary.grid)
    trajectory = tuple(
        TrajectoryPoint(float(m), before * 0.9**m, before * 1.2, (before * 0.8**m, before * 0.97**m))
        for m in range(7)
    )
    points = tuple(_time_point(baseline, months, kind, scale, arterial) for months, kind, scale in plan)
    return RegimenForecast(regimen_id, name, points, trajectory, survival)


def _time_point(
    baseline: Baseline, months: float, kind: TimePointKind, scale: float, arterial: bool
) -> TimePoint:
    grid = baseline.primary.grid
    labels = tissue_map(scale, lipiodol=True)
    images = tuple(_virtual(volume, labels) for volume in baseline.volumes)
    volume = viable_ml(labels, grid)
    extents = ViableRange(
        labels.box,
        labels.mask(Tissue.VIABLE) & tissue_map(scale * 0.8).mask(Tissue.VIABLE),
        labels.mask(Tissue.VIABLE) | tissue_map(scale * 1.2).mask(Tissue.VIABLE),
    )
    generated = GeneratedTimePoint(months, kind, images, labels, (volume * 0.7, volume * 1.3), extents)
    no_arterial = NotAssessed(Reason.PHASE_MISSING, "mRECIST needs an arterial phase.")
    return TimePoint(
        generated=generated,
        lesions=measure_lesions(labels, grid, (1, 2)),
        viable_ml=volume,
        recist11=Response(ResponseCategory.PR, 68.0 * scale, 100.0 * (scale - 1.0), ("L1", "L2")),
        mrecist=Response(ResponseCategory.SD, 60.0 * scale, -20.0, ("L1",)) if arterial else no_arterial,
    )


def _virtual(volume: SeriesVolume, labels: TissueMap) -> VirtualImage:
    stored = volume.stored[labels.box.slices].copy()
    stored[labels.mask(Tissue.NECROSIS, Tissue.LIPIODOL)] += 150
    stored[labels.mask(Tissue.VIABLE)] -= 20
    return VirtualImage(volume.series_instance_uid, volume.phase, labels.box, stored)
