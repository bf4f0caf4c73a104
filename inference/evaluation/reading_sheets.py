"""Import of readers' sheets and the statistics of a reading study."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.clinical.rates import Proportion, clopper_pearson
from inference.errors import TrainingDataError
from inference.evaluation.agreement import Reliability, fleiss_kappa, icc_2_1, krippendorff_alpha
from inference.evaluation.bootstrap import (
    CONFIDENCE,
    DRAWS,
    Estimate,
    difference,
    estimate,
    patient_weights,
)
from inference.evaluation.generator_output import figure
from inference.evaluation.measures import auroc_of, mean_of
from inference.evaluation.metrics import BoolArray
from inference.evaluation.plain import write_json
from inference.evaluation.reading_set import (
    KEY_COLUMNS,
    PLAUSIBLE_FROM,
    SCORE_MAXIMUM,
    SCORE_MINIMUM,
    ItemOrigin,
)
from inference.randomness import RandomStreams
from inference.results import FloatArray


@dataclass(frozen=True, slots=True)
class Readings:
    """All sheets joined with the key.

    Attributes
    ----------
    items : tuple of str
    readers : tuple of str
        Names of the sheets.
    scores : array, (items, readers)
    virtual : array of bool, (items,)
    """

    items: tuple[str, ...]
    readers: tuple[str, ...]
    scores: FloatArray
    virtual: BoolArray


def read_sheets(sheets: Sequence[Path], key: Path) -> Readings:
    """Read the sheets of all readers and the key.

    Raises
    ------
    TrainingDataError
        A sheet lacks a column, an item or a score, has an item twice or one that is not in the key, or
        a score that is not a whole number from 1 to 5. The message lists all that is wrong.
    """
    origin = _read_key(key)
    items = tuple(sorted(origin))
    if len({s.stem for s in sheets}) != len(sheets) or not sheets:
        raise TrainingDataError("each reader needs one sheet, with a name of its own")
    problems: list[str] = []
    columns = [_read_sheet(sheet, items, problems) for sheet in sheets]
    if problems:
        shown = "; ".join(problems[:12])
        more = f"; and {len(problems) - 12} more" if len(problems) > 12 else ""
        raise TrainingDataError(f"the sheets cannot be used: {shown}{more}")
    return Readings(
        items,
        tuple(s.stem for s in sheets),
        np.stack(columns, axis=1),
        np.array([origin[i] is ItemOrigin.VIRTUAL for i in items]),
    )


def _rows(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as opened:
            sample = opened.readline()
            opened.seek(0)
            delimiter = ";" if sample.count(";") > sample.count(",") else ","
            reader = csv.DictReader(opened, delimiter=delimiter)
            missing = [c for c in needed if c not in (reader.fieldnames or ())]
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingDataError(f"{path.name} cannot be read") from error
    if missing:
        raise TrainingDataError(f"{path.name} lacks the columns {', '.join(missing)}")
    return rows


def _read_key(path: Path) -> dict[str, ItemOrigin]:
    found: dict[str, ItemOrigin] = {}
    for row in _rows(path, KEY_COLUMNS[:2]):
        if row["origin"] not in tuple(ItemOrigin) or row["item"] in found:
            raise TrainingDataError(f"{path.name} is not a key of a reading set")
        found[row["item"]] = ItemOrigin(row["origin"])
    if set(found.values()) != set(ItemOrigin):
        raise TrainingDataError(f"{path.name} does not have both real and virtual items")
    return found


def _read_sheet(path: Path, items: Sequence[str], problems: list[str]) -> FloatArray:
    """Return the scores of one reader in the order of `items`; adds what is wrong to `problems`."""
    place = {item: i for i, item in enumerate(items)}
    scores = np.full(len(items), np.nan)
    seen: set[str] = set()
    for number, row in enumerate(_rows(path, ("item", "score")), 2):
        item = (row["item"] or "").strip()
        where = f"{path.name}, row {number}"
        if item not in place:
            problems.append(f"{where}: item {item or 'without a name'} is not in the key")
        elif item in seen:
            problems.append(f"{where}: item {item} was scored before")
        else:
            seen.add(item)
            scores[place[item]] = _score((row["score"] or "").strip(), where, problems)
    problems += [f"{path.name}: item {item} is missing" for item in items if item not in seen]
    return scores


def _score(text: str, where: str, problems: list[str]) -> float:
    if not text:
        problems.append(f"{where}: there is no score")
        return float("nan")
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = float("nan")
    if value not in range(SCORE_MINIMUM, SCORE_MAXIMUM + 1):
        problems.append(f"{where}: {text[:12]} is not a whole number from {SCORE_MINIMUM} to {SCORE_MAXIMUM}")
        return float("nan")
    return value


# ------------------------------------------------------------------ statistics


@dataclass(frozen=True, slots=True)
class ReaderFigures:
    """What one reader found; shares are of scores of at least 4, with exact limits.

    Attributes
    ----------
    difference : Estimate
        Share among virtual less share among real follow-ups.
    auroc : Estimate
        Of telling real from virtual by the score; 0.5 is not being able to.
    """

    reader: str
    virtual: Proportion
    real: Proportion
    difference: Estimate
    mean_virtual: float
    mean_real: float
    auroc: Estimate


@dataclass(frozen=True, slots=True)
class ReadingFigures:
    """The statistics of a reading study.

    Attributes
    ----------
    share_virtual, share_real, share_difference : Estimate
        Of scores of at least 4 by all readers together.
    auroc : Estimate
        Of telling real from virtual by the mean score of an item.
    kappa, kappa_plausible : Estimate
        Fleiss' kappa of the five points, and of at least 4 against less.
    alpha : Estimate
        Krippendorff's alpha for ordinal scores.
    """

    items: int
    virtual_items: int
    readers: tuple[ReaderFigures, ...]
    share_virtual: Estimate
    share_real: Estimate
    share_difference: Estimate
    auroc: Estimate
    kappa: Estimate
    kappa_plausible: Estimate
    alpha: Estimate
    icc: Reliability


def analyse(readings: Readings, streams: RandomStreams) -> ReadingFigures:
    """Compute the statistics; intervals of what pools readers are by bootstrap over items."""
    weights = patient_weights(len(readings.items), DRAWS, streams.derive("bootstrap"))
    plausible = readings.scores >= PLAUSIBLE_FROM
    share = plausible.mean(axis=1)
    virtual, real = readings.virtual, ~readings.virtual
    mean_score = readings.scores.mean(axis=1)
    return ReadingFigures(
        items=len(readings.items),
        virtual_items=int(virtual.sum()),
        readers=tuple(_reader(readings, r, weights) for r in range(len(readings.readers))),
        share_virtual=estimate(mean_of(share), weights, virtual),
        share_real=estimate(mean_of(share), weights, real),
        share_difference=_share_difference(share, virtual, weights),
        auroc=estimate(auroc_of(real, mean_score), weights),
        kappa=_resampled(readings.scores, weights, fleiss_kappa),
        kappa_plausible=_resampled(plausible.astype(np.float64), weights, fleiss_kappa),
        alpha=_resampled(readings.scores, weights, krippendorff_alpha),
        icc=icc_2_1(readings.scores),
    )


def _share_difference(share: FloatArray, virtual: BoolArray, weights: FloatArray) -> Estimate:
    shares = [mean_of(np.where(chosen, share, np.nan)) for chosen in (virtual, ~virtual)]
    return difference(shares[0], shares[1], weights)


def _reader(readings: Readings, reader: int, weights: FloatArray) -> ReaderFigures:
    scores, virtual = readings.scores[:, reader], readings.virtual
    plausible = scores >= PLAUSIBLE_FROM
    return ReaderFigures(
        readings.readers[reader],
        clopper_pearson(int(plausible[virtual].sum()), int(virtual.sum())),
        clopper_pearson(int(plausible[~virtual].sum()), int((~virtual).sum())),
        _share_difference(plausible.astype(np.float64), virtual, weights),
        float(scores[virtual].mean()),
        float(scores[~virtual].mean()),
        estimate(auroc_of(~virtual, scores), weights),
    )


def _resampled(scores: FloatArray, weights: FloatArray, of: Callable[[FloatArray], float]) -> Estimate:
    """Return an agreement with its bootstrap interval; agreement is not a function of weights."""
    value = float(of(scores))
    counts = weights.astype(np.intp)
    draws = np.array([of(np.repeat(scores, row, axis=0)) for row in counts])
    finite = draws[np.isfinite(draws)]
    tail = (1 - CONFIDENCE) / 2
    lower, upper = np.quantile(finite, [tail, 1 - tail]) if len(finite) else (np.nan, np.nan)
    return Estimate(value, float(lower), float(upper), len(scores))


# ------------------------------------------------------------------ output


def write_reading_figures(folder: Path, figures: ReadingFigures) -> tuple[Path, Path]:
    """Write ``reader_study.md`` and ``reader_study.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    text, data = folder / "reader_study.md", folder / "reader_study.json"
    text.write_text(_markdown(figures), encoding="utf-8")
    write_json(data, figures)
    return text, data


def _share(p: Proportion) -> str:
    return f"{p.successes}/{p.n} = {p.estimate:.3f} [{p.lower:.3f}, {p.upper:.3f}]"


def _markdown(found: ReadingFigures) -> str:
    real = found.items - found.virtual_items
    lines = [
        "# Reader study",
        "",
        f"{found.virtual_items} virtual and {real} real follow-ups, {len(found.readers)} readers. Shares of",
        f"scores of at least {PLAUSIBLE_FROM} have exact {CONFIDENCE:.0%} limits (Clopper-Pearson); other",
        f"brackets are bootstrap intervals over pictures ({DRAWS} draws), that of the ICC is by F.",
        "",
        "| reader | virtual, 4 or 5 | real, 4 or 5 | virtual less real | mean virtual / real | AUROC |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.reader} | {_share(r.virtual)} | {_share(r.real)} | {figure(r.difference)} "
        f"| {r.mean_virtual:.2f} / {r.mean_real:.2f} | {figure(r.auroc)} |"
        for r in found.readers
    ]
    icc = found.icc
    together = Estimate(icc.value, icc.lower, icc.upper, found.items)
    lines += [
        "",
        "| all readers | |",
        "|---|---|",
        f"| share of 4 or 5, virtual | {figure(found.share_virtual)} |",
        f"| share of 4 or 5, real | {figure(found.share_real)} |",
        f"| virtual less real | {figure(found.share_difference)} |",
        f"| AUROC of telling real from virtual by the mean score | {figure(found.auroc)} |",
        f"| Fleiss' kappa, five points | {figure(found.kappa)} |",
        f"| Fleiss' kappa, at least {PLAUSIBLE_FROM} or less | {figure(found.kappa_plausible)} |",
        f"| ICC(2,1) | {figure(together)} |",
        f"| Krippendorff's alpha, ordinal | {figure(found.alpha)} |",
        "",
        "An AUROC of 0.5 means that scores do not tell real from virtual follow-ups.",
    ]
    return "\n".join(lines) + "\n"
