"""Evaluate a segmenter on cases with a reference, and write the figures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from inference.errors import InferenceError, TrainingDataError
from inference.evaluation.bootstrap import CONFIDENCE, DRAWS, Estimate, estimate, patient_weights
from inference.evaluation.generator_output import figure
from inference.evaluation.measures import mean_of
from inference.evaluation.plain import write_json
from inference.evaluation.segmentation_cases import (
    LIVER,
    TUMOUR,
    CaseFiles,
    LabelValues,
    SegmentationCase,
    SegmentVolume,
    read_case_volumes,
)
from inference.evaluation.segmentation_measures import detect_lesions, volume_ml
from inference.imaging.overlap import dice, hausdorff95_mm, mean_surface_distance_mm
from inference.models.protocols import Progress
from inference.randomness import RandomStreams
from inference.results import FloatArray, Labels

_log = logging.getLogger(__name__)
_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class CaseScores:
    """Scores of one case; NaN where there is nothing to score.

    Attributes
    ----------
    refused : str
        Why the segmenter gave nothing; empty where it did.
    """

    name: str
    modality: str
    liver_dice: float = _NAN
    liver_hd95_mm: float = _NAN
    liver_surface_mm: float = _NAN
    liver_ml: float = _NAN
    liver_error_ml: float = _NAN
    tumour_dice: float = _NAN
    tumour_hd95_mm: float = _NAN
    tumour_ml: float = _NAN
    tumour_error_ml: float = _NAN
    lesions: int = 0
    lesions_found: int = 0
    false_positives: int = 0
    refused: str = ""


@dataclass(frozen=True, slots=True)
class SegmenterReport:
    """Scores of all cases and their means.

    Attributes
    ----------
    means : mapping of column of `CaseScores` to Estimate
    sensitivity, false_positives : Estimate
        Share of all lesions that were found, and false lesions a case.
    """

    segmenter: str
    cases: tuple[CaseScores, ...]
    means: Mapping[str, Estimate]
    sensitivity: Estimate
    false_positives: Estimate


_COLUMNS: Mapping[str, str] = {
    "liver_dice": "liver, Dice",
    "liver_hd95_mm": "liver, 95 % Hausdorff distance, mm",
    "liver_surface_mm": "liver, mean surface distance, mm",
    "liver_error_ml": "liver, error of volume, ml",
    "tumour_dice": "tumour, Dice",
    "tumour_hd95_mm": "tumour, 95 % Hausdorff distance, mm",
    "tumour_error_ml": "tumour, error of volume, ml",
}


def evaluate_segmenter(
    name: str,
    segment_volume: SegmentVolume,
    cases: Sequence[CaseFiles],
    values: LabelValues,
    streams: RandomStreams,
    progress: Progress,
) -> SegmenterReport:
    """Segment every case and compare with its reference.

    A case that the segmenter refuses counts with a Dice of 0 where the reference has a liver.

    Raises
    ------
    TrainingDataError
        A case cannot be read, or the segmenter returned labels on another grid.
    """
    scores = []
    for index, files in enumerate(cases):
        progress(f"case {index + 1} of {len(cases)}", index / len(cases))
        scores.append(_case(read_case_volumes(files, values), segment_volume))
    progress("done", 1.0)
    return summarise(name, tuple(scores), streams)


def _case(case: SegmentationCase, segment_volume: SegmentVolume) -> CaseScores:
    try:
        labels = segment_volume(case.volume, case.spacing_mm, case.modality)
    except InferenceError as error:
        _log.warning("a case was refused: %s", error)
        empty = np.zeros(case.volume.shape, dtype=np.uint8)
        scored = score_case(case, empty)
        return replace(scored, refused=str(error))
    if labels.shape != case.volume.shape:
        raise TrainingDataError("the segmenter returned labels on another grid than the images")
    return score_case(case, labels)


def score_case(case: SegmentationCase, labels: Labels) -> CaseScores:
    """Compare the labels of a segmenter with the reference of a case."""
    liver, tumour = np.isin(labels, (LIVER, TUMOUR)), labels == TUMOUR
    detected = detect_lesions(tumour, case.tumour, case.spacing_mm)
    spacing = case.spacing_mm
    return CaseScores(
        case.name,
        case.modality,
        liver_dice=dice(liver, case.liver),
        liver_hd95_mm=hausdorff95_mm(liver, case.liver, spacing),
        liver_surface_mm=mean_surface_distance_mm(liver, case.liver, spacing),
        liver_ml=volume_ml(case.liver, spacing),
        liver_error_ml=volume_ml(liver, spacing) - volume_ml(case.liver, spacing),
        tumour_dice=dice(tumour, case.tumour) if case.tumour.any() else _NAN,
        tumour_hd95_mm=hausdorff95_mm(tumour, case.tumour, spacing),
        tumour_ml=volume_ml(case.tumour, spacing),
        tumour_error_ml=volume_ml(tumour, spacing) - volume_ml(case.tumour, spacing),
        lesions=detected.lesions,
        lesions_found=detected.found,
        false_positives=detected.false_positives,
    )


def summarise(name: str, scores: tuple[CaseScores, ...], streams: RandomStreams) -> SegmenterReport:
    """Return means over cases with bootstrap intervals."""
    weights = patient_weights(len(scores), DRAWS, streams.derive("bootstrap"))

    def column(key: str) -> FloatArray:
        return np.array([float(getattr(s, key)) for s in scores])

    means = {key: estimate(mean_of(column(key)), weights, np.isfinite(column(key))) for key in _COLUMNS}
    lesions, found = column("lesions"), column("lesions_found")

    def sensitivity(w: FloatArray) -> FloatArray:
        total = w @ lesions
        return np.divide(w @ found, total, out=np.full_like(total, np.nan), where=total > 0)

    return SegmenterReport(
        name,
        scores,
        means,
        estimate(sensitivity, weights, lesions > 0),
        estimate(mean_of(column("false_positives")), weights),
    )


# ------------------------------------------------------------------ output


def write_segmenter_evaluation(folder: Path, report: SegmenterReport) -> tuple[Path, ...]:
    """Write ``segmenter.md``, ``segmenter.json`` and ``segmenter.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / f"segmenter.{kind}" for kind in ("md", "json", "png"))
    paths[0].write_text(_markdown(report), encoding="utf-8")
    write_json(paths[1], report)
    _draw(report, paths[2])
    return paths


def _markdown(report: SegmenterReport) -> str:
    lines = [
        "# Evaluation of the segmenter",
        "",
        (
            f"{report.segmenter}, {len(report.cases)} cases. The liver includes its tumours. Brackets are "
            f"{CONFIDENCE:.0%} bootstrap intervals over cases ({DRAWS} draws)."
        ),
        "",
        "| measure | mean | cases |",
        "|---|---|---|",
    ]
    lines += [
        f"| {title} | {figure(report.means[k])} | {report.means[k].n} |" for k, title in _COLUMNS.items()
    ]
    lines += [
        f"| lesions found, share | {figure(report.sensitivity)} | {report.sensitivity.n} |",
        f"| false lesions a case | {figure(report.false_positives)} | {report.false_positives.n} |",
        "",
        "| case | liver Dice | HD95 mm | liver ml | error ml | tumour Dice | lesions found | false | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(case) for case in report.cases]
    return "\n".join(lines) + "\n"


def _row(case: CaseScores) -> str:
    def shown(value: float, digits: int) -> str:
        return f"{value:.{digits}f}" if np.isfinite(value) else "–"

    cells = (
        case.name,
        shown(case.liver_dice, 3),
        shown(case.liver_hd95_mm, 1),
        shown(case.liver_ml, 0),
        shown(case.liver_error_ml, 0),
        shown(case.tumour_dice, 3),
        f"{case.lesions_found}/{case.lesions}",
        str(case.false_positives),
        f"refused: {case.refused}" if case.refused else "",
    )
    return "| " + " | ".join(cells) + " |"


def _draw(report: SegmenterReport, path: Path) -> None:
    from matplotlib.figure import Figure

    picture = Figure(figsize=(8, 0.4 * len(report.cases) + 1.8), layout="constrained")
    axes = picture.subplots()
    places = np.arange(len(report.cases))[::-1]
    series: tuple[tuple[str, Callable[[CaseScores], float]], ...] = (
        ("liver", lambda c: c.liver_dice),
        ("tumour", lambda c: c.tumour_dice),
    )
    for label, of in series:
        axes.plot([of(c) for c in report.cases], places, "o", label=label)
    axes.set_yticks(places, [c.name for c in report.cases], fontsize=9)
    axes.set_ylim(-0.7, len(report.cases) - 0.3)
    axes.set_xlim(0, 1)
    axes.set_xlabel("Dice")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    picture.savefig(path, dpi=110, metadata={"Software": None})
