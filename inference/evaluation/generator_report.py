"""From scores to figures: every measure with its interval, and the bars that a generator has to pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import pandas as pd

from inference.evaluation.bootstrap import (
    DRAWS,
    Estimate,
    Statistic,
    difference,
    estimate,
    patient_weights,
    relative_difference,
    share_of_gap,
)
from inference.evaluation.distances import frechet_distance, kernel_distance
from inference.evaluation.extractors import Extractor
from inference.evaluation.forecasts import CLASSES
from inference.evaluation.generator_run import CohortScores
from inference.evaluation.measures import auroc_of, kappa_of, macro_f1_of, mean_of
from inference.evaluation.metrics import BoolArray
from inference.evaluation.patient_scores import BASELINE, TRUE, Context
from inference.evaluation.response_rates import ResponseRates, response_rates
from inference.evaluation.survival_at import status
from inference.models.protocols import Progress
from inference.randomness import RandomStreams
from inference.results import FloatArray

LOGISTIC = "logistic regression"
REGRESSION, CLIMATOLOGY, RIDGE, REGIMEN_MEAN, ORACLE = (
    "one-step regression",
    "climatology",
    "ridge",
    "regimen mean",
    "oracle",
)
_CLASSES = len(CLASSES)


class Better(StrEnum):
    """Which values of a measure are good."""

    LOWER = "lower"
    HIGHER = "higher"
    NEAR = "near 0.80"
    NONE = ""


@dataclass(frozen=True, slots=True)
class Measure:
    """A column of the table: how it is computed from the scores and the true classes."""

    key: str
    title: str
    better: Better
    of: Callable[[pd.DataFrame, np.ndarray], Statistic]


def _column(name: str) -> Callable[[pd.DataFrame, np.ndarray], Statistic]:
    return lambda frame, truth: mean_of(frame[name].to_numpy(dtype=np.float64))


def _classes(frame: pd.DataFrame, name: str) -> np.ndarray:
    return frame[name].to_numpy(dtype=np.intp)


MEASURES: tuple[Measure, ...] = (
    Measure("crps", "CRPS of viable volume, % of baseline", Better.LOWER, _column("crps_pct")),
    Measure("coverage", "coverage of the 80 % interval", Better.NEAR, _column("covered")),
    Measure("width", "width of the 80 % interval, % of baseline", Better.NONE, _column("width_pct")),
    Measure("volume_pct", "error of viable volume, % of baseline", Better.LOWER, _column("error_pct")),
    Measure("volume_ml", "error of viable volume, ml", Better.LOWER, _column("error_ml")),
    Measure("diameter", "error of viable diameter, mm", Better.LOWER, _column("diameter_error_mm")),
    Measure(
        "kappa_quadratic",
        "mRECIST class, quadratic kappa",
        Better.HIGHER,
        lambda f, t: kappa_of(t, _classes(f, "predicted"), _CLASSES, 2),
    ),
    Measure(
        "kappa_linear",
        "mRECIST class, linear kappa",
        Better.HIGHER,
        lambda f, t: kappa_of(t, _classes(f, "predicted"), _CLASSES, 1),
    ),
    Measure(
        "kappa_single",
        "quadratic kappa of one sample",
        Better.HIGHER,
        lambda f, t: kappa_of(t, _classes(f, "single"), _CLASSES, 2),
    ),
    Measure(
        "macro_f1",
        "mRECIST class, macro F1",
        Better.HIGHER,
        lambda f, t: macro_f1_of(t, _classes(f, "predicted"), _CLASSES),
    ),
    Measure(
        "difference",
        "error of the difference of two regimens, % of baseline",
        Better.LOWER,
        _column("difference_error_pct"),
    ),
    Measure("lesion_mae", "lesion HU, error of the mean", Better.LOWER, _column("lesion_mae")),
    Measure("single_mae", "lesion HU, error of one sample", Better.LOWER, _column("single_mae")),
    Measure("voxel_crps", "lesion HU, voxel CRPS", Better.LOWER, _column("voxel_crps")),
    Measure(
        "realised",
        "realised less requested volume, % of baseline",
        Better.LOWER,
        _column("realised_error_pct"),
    ),
)
MEASURE: Mapping[str, Measure] = {m.key: m for m in MEASURES}


@dataclass(frozen=True, slots=True)
class Bar:
    """One comparison that decides whether a generator is good enough.

    Attributes
    ----------
    met : bool or None
        None where it could not be measured.
    relative : bool
        Whether the figure is a share by which something is more or less than its reference.
    """

    title: str
    figure: Estimate
    limit: str
    met: bool | None
    relative: bool = False


@dataclass(frozen=True, slots=True)
class Distances:
    """FID and KID of one set of slices to the true follow-ups of the same patients."""

    what: str
    images: int
    fid: float
    kid: float
    kid_standard_error: float


@dataclass(frozen=True, slots=True)
class GeneratorReport:
    """All figures of one cohort.

    Attributes
    ----------
    table : mapping of forecaster to mapping of `Measure.key` to Estimate
    per_regimen : the same by regimen
    discrimination : mapping of title to mapping of source to Estimate
        AUROC of objective response and of death.
    bars : mapping of forecaster to bars
    ceiling : Estimate
        Quadratic kappa of the class measured on the true map: a forecast's class can hardly do better.
    """

    cohort: str
    digest: str
    origin: str
    patients: int
    table: Mapping[str, Mapping[str, Estimate]]
    per_regimen: Mapping[str, Mapping[str, Mapping[str, Estimate]]]
    discrimination: Mapping[str, Mapping[str, Estimate]]
    bars: Mapping[str, tuple[Bar, ...]]
    ceiling: Estimate
    extractor: str = ""
    distances: tuple[Distances, ...] = ()
    rates: tuple[ResponseRates, ...] = ()
    not_answered: Mapping[str, int] = field(default_factory=dict)


def summarise(
    scored: CohortScores,
    context: Context,
    candidates: Sequence[str],
    extractor: Extractor | None,
    streams: RandomStreams,
    progress: Progress,
) -> GeneratorReport:
    """Compute all figures of one cohort.

    Parameters
    ----------
    candidates : sequence of str
        The forecasters whose bars are judged.
    extractor : Extractor or None
        None leaves FID and KID out.
    """
    n = len(scored.asked)
    weights = patient_weights(n, DRAWS, streams.derive("bootstrap"))
    truth = np.array([a.main.response for a in scored.asked], dtype=np.intp)
    regimen = np.array([a.main.regimen_id for a in scored.asked])
    progress("intervals", 0.0)
    figures = _Figures(scored, weights, truth)
    everyone = np.ones(n, dtype=bool)
    return GeneratorReport(
        cohort=scored.info.name,
        digest=scored.info.sha256,
        origin=str(scored.info.origin),
        patients=n,
        table=figures.table(everyone),
        per_regimen={str(r): figures.table(regimen == r) for r in np.unique(regimen)},
        discrimination=figures.discrimination(),
        bars={name: figures.bars(name) for name in candidates if name in scored.frames},
        ceiling=estimate(kappa_of(truth, scored.class_on_map, _CLASSES, 2), weights),
        extractor="" if extractor is None else extractor.name,
        distances=() if extractor is None else _distances(scored, context, extractor, streams, progress),
        rates=response_rates(
            truth, {name: _classes(f, "single") for name, f in scored.frames.items()}, list(regimen), weights
        ),
        not_answered={k: v for k, v in scored.not_answered.items() if v},
    )


class _Figures:
    """Measures of one cohort under the same bootstrap weights."""

    def __init__(self, scored: CohortScores, weights: FloatArray, truth: np.ndarray) -> None:
        self._scored, self._weights, self._truth = scored, weights, truth

    def _statistic(self, forecaster: str, key: str) -> Statistic:
        return MEASURE[key].of(self._scored.frames[forecaster], self._truth)

    def _answered(self, *forecasters: str, key: str = "crps_pct") -> BoolArray:
        frames = [self._scored.frames[name][key].notna().to_numpy(dtype=bool) for name in forecasters]
        return np.asarray(np.logical_and.reduce(frames))

    def table(self, among: BoolArray) -> dict[str, dict[str, Estimate]]:
        """Return every measure that a forecaster has, among some patients."""
        return {
            name: {
                m.key: found
                for m in MEASURES
                if (found := estimate(m.of(frame, self._truth), self._weights, among)).known
            }
            for name, frame in self._scored.frames.items()
        }

    # -------------------------------------------------------------- discrimination

    def _sources(self) -> dict[str, FloatArray]:
        found = {n: f["response_score"].to_numpy(dtype=np.float64) for n, f in self._scored.frames.items()}
        return found | {LOGISTIC: self._scored.logistic, TRUE: self._scored.truth_score}

    def _responders(self) -> dict[str, tuple[BoolArray, BoolArray]]:
        asked = self._scored.asked
        ever = [a.main.ever_responded for a in asked]
        return {
            "objective response at the month asked": (
                self._truth >= 0,
                (self._truth >= 0) & (self._truth <= 1),
            ),
            "objective response at any month": (
                np.array([e is not None for e in ever]),
                np.array([bool(e) for e in ever]),
            ),
        }

    def discrimination(self) -> dict[str, dict[str, Estimate]]:
        """Return AUROC of objective response and of death, by where the score comes from."""
        found: dict[str, dict[str, Estimate]] = {}
        for title, (known, positive) in self._responders().items():
            found[title] = {
                name: self._auroc(positive, score, known) for name, score in self._sources().items()
            }
        fate = status([a.row for a in self._scored.asked])
        order = {BASELINE: None, TRUE: None} | dict.fromkeys(self._scored.death)
        found["death before 12 months"] = {
            name: self._auroc(fate.died, self._scored.death[name], fate.known) for name in order
        }
        return {t: {n: e for n, e in r.items() if e.known} for t, r in found.items()}

    def _auroc(self, positive: BoolArray, score: FloatArray, known: BoolArray) -> Estimate:
        statistic = auroc_of(positive, score, known)
        return estimate(statistic, self._weights, known & np.isfinite(score))

    # -------------------------------------------------------------- bars

    def bars(self, name: str) -> tuple[Bar, ...]:
        """Return the bars of one forecaster; those that need an absent reference are not measured."""
        return (
            self._relative(name, CLIMATOLOGY, "crps", -0.15, "CRPS of viable volume against climatology"),
            self._relative(name, RIDGE, "crps", 0.0, "CRPS of viable volume against ridge on scalars"),
            self._gap(name),
            self._coverage(name),
            self._relative(
                name, REGRESSION, "lesion_mae", 0.05, "lesion HU of the mean against one-step regression"
            ),
            self._relative(
                name, REGRESSION, "voxel_crps", 0.0, "voxel CRPS of lesion HU against one-step regression"
            ),
            self._realised(name),
            self._relative(
                name, REGIMEN_MEAN, "difference", 0.0, "difference of two regimens against regimen mean"
            ),
            self._response(name),
        )

    def _relative(self, name: str, reference: str, key: str, limit: float, title: str) -> Bar:
        words = f"at most {limit:+.0%}" if limit else "not above 0 %"
        if reference not in self._scored.frames:
            return Bar(title, _unknown(), words, None)
        first, second = self._statistic(name, key), self._statistic(reference, key)
        column = {"crps": "crps_pct", "difference": "difference_error_pct"}.get(key, key)
        among = self._answered(name, reference, key=column)
        if not among.any():
            return Bar(title, _unknown(), words, None)
        found = relative_difference(first, second, self._weights, among)
        return Bar(title, found, words, found.value <= limit if found.known else None, relative=True)

    def _gap(self, name: str) -> Bar:
        title, words = "share of the gap from climatology to the simulator's oracle", "reported"
        if not {ORACLE, CLIMATOLOGY} <= set(self._scored.frames):
            return Bar(title, _unknown(), words, None)
        parts = [self._statistic(n, "crps") for n in (name, CLIMATOLOGY, ORACLE)]
        among = self._answered(name, CLIMATOLOGY, ORACLE)
        if not among.any():
            return Bar(title, _unknown(), words, None)
        return Bar(title, share_of_gap(parts[0], parts[1], parts[2], self._weights, among), words, None)

    def _coverage(self, name: str) -> Bar:
        found = estimate(self._statistic(name, "coverage"), self._weights)
        met = 0.75 <= found.value <= 0.90 if found.known else None
        return Bar("coverage of the 80 % interval", found, "0.75 to 0.90", met)

    def _realised(self, name: str) -> Bar:
        frame = self._scored.frames[name]
        requested = mean_of(frame["requested_ml"].to_numpy(dtype=np.float64))
        realised = mean_of(frame["realised_ml"].to_numpy(dtype=np.float64))
        found = relative_difference(realised, requested, self._weights)
        within = estimate(self._statistic(name, "realised"), self._weights)
        met = bool(abs(found.value) <= 0.05 and within.value <= 5.0) if found.known else None
        title = "realised over requested viable volume"
        return Bar(title, found, "within 5 %, in total and on average", met, relative=True)

    def _response(self, name: str) -> Bar:
        known, positive = self._responders()["objective response at the month asked"]
        sources = self._sources()
        first, second = (auroc_of(positive, sources[n], known) for n in (name, LOGISTIC))
        among = known & np.isfinite(sources[name]) & np.isfinite(sources[LOGISTIC])
        title = "AUROC of objective response less that of logistic regression"
        if not among.any():
            return Bar(title, _unknown(), "not below 0", None)
        found = difference(first, second, self._weights, among)
        return Bar(title, found, "not below 0", found.value >= 0 if found.known else None)


def _unknown() -> Estimate:
    nan = float("nan")
    return Estimate(nan, nan, nan, 0)


def _distances(
    scored: CohortScores,
    context: Context,
    extractor: Extractor,
    streams: RandomStreams,
    progress: Progress,
) -> tuple[Distances, ...]:
    truth = scored.slices.get(TRUE)
    if truth is None or len(truth) < 2:
        return ()
    real = extractor.features(truth)
    sets = {"true follow-ups of other patients (floor)": context.other_real[: len(truth)]}
    sets |= {name: s for name, s in scored.slices.items() if name != TRUE}
    found = []
    for count, (name, slices) in enumerate(sets.items()):
        progress("features of slices", count / len(sets))
        if len(slices) < 2:
            continue
        features = extractor.features(slices)
        kernel = kernel_distance(features, real, streams.derive("kid", name))
        fid = frechet_distance(features, real)
        found.append(Distances(name, len(slices), fid, kernel.value, kernel.standard_error))
    return tuple(found)
