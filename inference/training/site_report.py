"""The report on a prepared cohort: who is in it, who is not and why, and how follow-ups were registered.

It names patients by pseudonym and by row of the site's table, and holds no date, UID or file name.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inference.results import Labels
from inference.training.cohort import NO_VALUE, Cohort
from inference.training.cohort_evidence import NO_EVIDENCE, read_evidence
from inference.training.registration_quality import RegistrationLimits
from inference.training.site_cohort import SiteResult
from inference.training.site_patient import PairPicture, PairReport

REPORT, REPORT_JSON, SHEET = "report.md", "report.json", "registration.png"
_PAIRS_ON_SHEET = 40
_TILE = 2.1
_HOW_MEASURED = (
    "Volumes, diameters and response were measured on each follow-up's own grid, before registration. The "
    "elastic part is rigid in and around every lesion, so that it cannot shrink or swell one; the volume "
    "ratio compares the resampled lesions with the measured ones."
)
_QUALITY = (
    ("dice_before", "Dice before", "{:.2f}"),
    ("dice_rigid", "Dice rigid", "{:.2f}"),
    ("dice", "Dice", "{:.2f}"),
    ("surface_mm", "surface mm", "{:.1f}"),
    ("residual", "residual", "{:.3f}"),
    ("jacobian_min", "Jacobian min", "{:.2f}"),
    ("jacobian_max", "max", "{:.2f}"),
    ("folding", "folding", "{:.2%}"),
)


def write_report(result: SiteResult, limits: RegistrationLimits, folder: Path) -> Mapping[str, Any]:
    """Write ``report.md``, ``report.json`` and ``registration.png``; return what the JSON says."""
    folder.mkdir(parents=True, exist_ok=True)
    document = report_document(result, limits)
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    (folder / REPORT_JSON).write_text(text, encoding="utf-8")
    (folder / REPORT).write_text(report_text(document), encoding="utf-8")
    pairs = [pair for patient in result.prepared for pair in patient.pairs]
    if pairs:
        write_sheet(pairs, folder / SHEET)
    return document


def report_document(result: SiteResult, limits: RegistrationLimits) -> dict[str, Any]:
    """Return the report as plain values."""
    used = [p for p in result.prepared if p.row is not None]
    outcomes = [o for p in used for o in p.outcomes]
    pairs = [pair for p in result.prepared for pair in p.pairs]
    left_out = sorted((x for p in result.prepared for x in p.left_out), key=lambda x: (x.row, x.what))
    return {
        "refused": result.refusal,
        "patients_in_table": len(result.prepared),
        "patients_in_cohort": len(used),
        "follow_ups_in_cohort": len(outcomes),
        "by_centre": _counts(str(p.row["centre"]) for p in used if p.row),
        "by_regimen": _counts(str(p.row["regimen_id"]) for p in used if p.row),
        "by_centre_regimen_split": _strata(result.cohort),
        "known_beside_the_table": _evidence(result.cohort),
        "recist11": _counts(str(o["recist11"]) for o in outcomes),
        "mrecist": _counts(str(o["mrecist"]) for o in outcomes),
        "limits": limits.model_dump(),
        "registration": [_pair(p) for p in pairs],
        "left_out": [
            {"row": x.row, "patient_id": x.patient_id, "what": x.what, "reason": x.reason} for x in left_out
        ],
    }


def _counts(words: Any) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


def _evidence(cohort: Cohort | None) -> list[dict[str, Any]]:
    """Count the patients of whom more than table and images is known from before the treatment."""
    found = NO_EVIDENCE if cohort is None else read_evidence(cohort.folder)
    return [
        {"what": "laboratory values over time", "patients": len(found.dated)},
        {"what": "reports", "patients": len(found.texts.of)},
        {"what": "angiographies", "patients": len(found.angiographies.of)},
    ]


def _strata(cohort: Cohort | None) -> list[dict[str, Any]]:
    if cohort is None:
        return []
    table = cohort.patients
    columns = ("centre", "regimen_id", "split")
    sizes = Counter(zip(*(table[c].astype(str).tolist() for c in columns), strict=True))
    return [{**dict(zip(columns, key, strict=True)), "patients": n} for key, n in sorted(sizes.items())]


def _pair(pair: PairReport) -> dict[str, Any]:
    figures = {name: _finite(getattr(pair.quality, name)) for name, _, _ in _QUALITY}
    return {
        "patient_id": pair.patient_id,
        "row": pair.row,
        "months": round(pair.months, 2),
        **figures,
        "lesion_volume_ratio": _finite(pair.lesion_volume_ratio),
        "new_lesions": pair.new_lesions,
        "used": not pair.failures,
        "failures": list(pair.failures),
        "notes": list(pair.notes),
    }


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


# ------------------------------------------------------------------ text


def report_text(document: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    lines = [
        "# Prepared cohort",
        "",
        (
            f"{document['patients_in_cohort']} of {document['patients_in_table']} patients of the table, "
            f"{document['follow_ups_in_cohort']} follow-ups."
        ),
        "",
    ]
    if document["refused"]:
        lines += [f"**No cohort was made: {document['refused']}.**", ""]
    lines += _section(
        "Patients", ("centre", "regimen_id", "split", "patients"), document["by_centre_regimen_split"]
    )
    lines += _section(
        "Known beside the table, before treatment", ("what", "patients"), document["known_beside_the_table"]
    )
    lines += _section(
        "Response at follow-ups",
        ("criteria", "CR", "PR", "SD", "PD", "NE"),
        [{"criteria": name, **document[name]} for name in ("recist11", "mrecist")],
    )
    lines += _section("Left out", ("row", "patient_id", "what", "reason"), document["left_out"])
    lines += [
        "## Registration",
        "",
        _HOW_MEASURED,
        "",
        *_table(
            ("row", "patient_id", "months", *(t for _, t, _ in _QUALITY), "volume ratio", "new", "used"),
            [_quality_row(p) for p in document["registration"]],
        ),
    ]
    notes = [
        {"row": p["row"], "patient_id": p["patient_id"], "note": n}
        for p in document["registration"]
        for n in p["notes"]
    ]
    lines += _section("Notes on follow-ups", ("row", "patient_id", "note"), notes)
    return "\n".join(lines).rstrip() + "\n"


def _quality_row(pair: Mapping[str, Any]) -> list[str]:
    figures = [_shown(pair[name], form) for name, _, form in _QUALITY]
    ratio = _shown(pair["lesion_volume_ratio"], "{:.3f}")
    who = [str(pair["row"]), pair["patient_id"], f"{pair['months']:g}"]
    return [*who, *figures, ratio, str(pair["new_lesions"]), "yes" if pair["used"] else "no"]


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _section(title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    cells = [[str(row.get(c, 0)) for c in columns] for row in rows]
    return [f"## {title}", "", *_table(columns, cells)]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [list(columns), ["---"] * len(columns), *rows]
    return ["| " + " | ".join(c.replace("|", "/") for c in line) + " |" for line in lines] + [""]


# ------------------------------------------------------------------ pictures


def write_sheet(pairs: Sequence[PairReport], path: Path) -> None:
    """Write one row of pictures for each pair: baseline, follow-up in its place, both in squares.

    Outlines: liver of the baseline white, tumour of the baseline yellow, of the follow-up red. Pairs that
    were left out come first; of very many pairs the worst by Dice are shown.
    """
    from matplotlib.figure import Figure

    shown = sorted(pairs, key=lambda p: (not p.failures, p.quality.dice, p.patient_id, p.months))
    shown = shown[:_PAIRS_ON_SHEET]
    columns = 2 if len(shown) > 4 else 1
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(3 * columns * _TILE, rows * (_TILE + 0.3)), layout="constrained")
    axes = np.atleast_2d(figure.subplots(rows, 3 * columns, squeeze=False))
    for axis in axes.ravel():
        axis.set_axis_off()
    for index, pair in enumerate(shown):
        row, column = index % rows, 3 * (index // rows)
        _draw(axes[row, column : column + 3], pair)
    figure.savefig(path, dpi=120, facecolor="white", metadata={"Software": None})


def _draw(axes: np.ndarray, pair: PairReport) -> None:
    picture = pair.picture
    before, after = _grey(picture.before), _grey(picture.after)
    squares = np.indices(before.shape).sum(axis=0, dtype=np.int64)
    y, x = np.indices(before.shape)
    squares = ((y // 12) + (x // 12)) % 2 == 0
    titles = (pair.patient_id, f"{pair.months:.1f} months", f"Dice {pair.quality.dice:.2f}")
    colour = "firebrick" if pair.failures else "black"
    for axis, image, title in zip(
        axes, (before, after, np.where(squares, before, after)), titles, strict=True
    ):
        axis.imshow(image, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
        axis.set_title(title, fontsize=7, color=colour)
    _outline(axes, picture)


def _outline(axes: np.ndarray, picture: PairPicture) -> None:
    for axis in axes:
        _contour(axis, picture.liver, "white")
    _contour(axes[0], picture.tumour_before, "gold")
    _contour(axes[1], picture.tumour_after, "red")
    _contour(axes[2], picture.tumour_before, "gold")
    _contour(axes[2], picture.tumour_after, "red")


def _contour(axis: Any, share: Labels, colour: str) -> None:
    if share.min() < 128 <= share.max():
        axis.contour(share, levels=[127.5], colors=[colour], linewidths=0.7)


def _grey(image: np.ndarray) -> np.ndarray:
    """Return 0 to 1 of what lies in a slice: the window of its own middle values."""
    seen = image > NO_VALUE
    if not seen.any():
        return np.zeros(image.shape)
    low, high = np.percentile(image[seen], (15, 99))
    return np.asarray(np.clip((image - low) / max(float(high - low), 1.0), 0.0, 1.0))
