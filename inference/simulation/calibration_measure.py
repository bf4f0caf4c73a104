"""What the calibrated simulator gives, arm by arm, beside what it was calibrated to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inference.results import FloatArray, Mask, ResponseCategory
from inference.settings import Regimen
from inference.simulation.anatomy import Anatomy
from inference.simulation.calibration_population import (
    Followed,
    Member,
    Targets,
    follow,
    interval,
    population,
)
from inference.simulation.calibration_response import Crowd, ResponseCurve
from inference.simulation.latents import Person
from inference.simulation.parameters import CONTROL_ARM, SimulationParameters, Source
from inference.simulation.survival import Outcome, assess, best_response, outcome, responded
from inference.simulation.tumours import Lesion

FOLDS = 5
_ORDER = (ResponseCategory.CR, ResponseCategory.PR, ResponseCategory.SD, ResponseCategory.PD)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of the simulator beside its target.

    Attributes
    ----------
    low, high : the bar, as a rule the 95 % interval that the source's n leaves open; NaN without one
    """

    topic: str
    source: str
    regimen: str
    quantity: str
    target: float
    low: float
    high: float
    simulated: float
    patients: int
    kind: str

    @property
    def miss(self) -> float:
        """How far the simulated figure lies outside the bar; 0 within, NaN without one."""
        if np.isnan(self.low):
            return float("nan")
        return float(max(self.low - self.simulated, self.simulated - self.high, 0.0))


@dataclass(frozen=True, slots=True)
class Arm:
    """One source under one regimen."""

    source: str
    regimen: Regimen
    followed: tuple[Followed, ...]

    @property
    def members(self) -> tuple[Member, ...]:
        """The patients."""
        return tuple(f.member for f in self.followed)

    def outcomes(self) -> tuple[Outcome, ...]:
        """Return the true times of all patients."""
        return tuple(
            outcome(
                f.member.course,
                f.member.fate,
                self.regimen,
                f.member.baseline,
                f.follow_ups,
                f.assessments,
            )
            for f in self.followed
        )

    def responses(self) -> FloatArray:
        """Return 1 for each objective response."""
        return np.array([float(responded(f.assessments)) for f in self.followed])


class Measured:
    """Arms of all targets, followed once."""

    def __init__(
        self,
        parameters: SimulationParameters,
        targets: Targets,
        regimens: Mapping[str, Regimen],
        members: Mapping[str, Sequence[Member]],
    ) -> None:
        self.parameters, self.targets = parameters, targets
        known = {**regimens, CONTROL_ARM.id: CONTROL_ARM}
        wanted = {(t.source, t.regimen) for t in targets.response}
        self.arms = {
            (source, regimen): Arm(source, known[regimen], follow(members[source], known[regimen]))
            for source, regimen in sorted(wanted)
        }

    def rows(self) -> list[Row]:
        """Return all figures."""
        return [
            *self.response(),
            *self.categories(),
            *self.progression(),
            *self.survival(),
            *self.change(),
            *self.information(),
            *self.biology(),
        ]

    def response(self) -> list[Row]:
        """Objective response rates."""
        rows = []
        for t in self.targets.response:
            values = self.arms[t.source, t.regimen].responses()
            low, high = interval(t.rate, t.n)
            rows.append(
                Row(
                    "response",
                    t.source,
                    t.regimen,
                    "ORR",
                    t.rate,
                    low,
                    high,
                    values.mean(),
                    len(values),
                    t.kind,
                )
            )
        return rows

    def categories(self) -> list[Row]:
        """CR and PR as best response, PD as status at a year; and best responses of all arms."""
        rows = []
        for t in self.targets.categories:
            arm = self.arms[t.source, t.regimen]
            best = [best_response(f.assessments) for f in arm.followed]
            shares = [float(np.mean([b is c for b in best])) for c in _ORDER]
            progressed = float(np.mean([o.progression_months <= 12.0 for o in arm.outcomes()]))
            for name, target, value in (
                ("CR, best", t.shares[0], shares[0]),
                ("PR, best", t.shares[1], shares[1]),
                ("progressed at 12 months", t.shares[3], progressed),
            ):
                low, high = interval(target, t.n)
                rows.append(
                    Row("categories", t.source, t.regimen, name, target, low, high, value, len(best), t.kind)
                )
        for (source, regimen), arm in self.arms.items():
            best = [best_response(f.assessments) for f in arm.followed]
            for category in _ORDER:
                share = float(np.mean([b is category for b in best]))
                rows.append(_free("best response", source, regimen, str(category), share, len(best)))
        return rows

    def progression(self) -> list[Row]:
        """Median progression-free survival, and the share progressed by a new lesion first."""
        rows = []
        for t in self.targets.progression:
            times = [o.progression_months for o in self.arms[t.source, t.regimen].outcomes()]
            rows.append(
                Row(
                    "progression",
                    t.source,
                    t.regimen,
                    "median PFS, months",
                    t.months,
                    *t.interval,
                    float(np.median(times)),
                    len(times),
                    t.kind,
                )
            )
        return rows

    def survival(self) -> list[Row]:
        """Shares alive."""
        rows = []
        for t in self.targets.survival:
            times = np.array([o.death_months for o in self.arms[t.source, t.regimen].outcomes()])
            for month, target in t.at.items():
                low, high = interval(target, t.n)
                name = f"alive at {month:g} months"
                value = float((times > month).mean())
                rows.append(
                    Row("survival", t.source, t.regimen, name, target, low, high, value, len(times), t.kind)
                )
        return rows

    def change(self) -> list[Row]:
        """Quantiles of the change of summed diameters at month 3 against the readers'."""
        t = self.targets.change
        arm = self.arms[t.source, t.regimen]
        rows = []
        for name, wanted in (("recist11", t.recist11), ("mrecist", t.mrecist)):
            values = np.array([_change(f, name) for f in arm.followed])
            found = np.quantile(values, t.probabilities)
            for p, target, value in zip(t.probabilities, wanted, found, strict=True):
                rows.append(
                    Row(
                        "change at first follow-up",
                        t.source,
                        t.regimen,
                        f"{name}, quantile {p:g}",
                        target,
                        target - 0.10,
                        target + 0.10,
                        float(value),
                        len(values),
                        "real",
                    )
                )
        return rows

    def information(self) -> list[Row]:
        """AUROC of response and C of survival from clinical values and simple radiomics, cross-validated."""
        rows = []
        for (source, regimen), arm in self.arms.items():
            table = np.stack([observables(m) for m in arm.members])
            labels = arm.responses()
            if 5 <= labels.sum() <= len(labels) - 5:
                value = auroc(labels, cross_validated(table, labels))
                rows.append(
                    Row(
                        "information",
                        source,
                        regimen,
                        "AUROC of response",
                        0.775,
                        0.70,
                        0.85,
                        value,
                        len(labels),
                        "published",
                    )
                )
            deaths = np.array([o.death_months for o in arm.outcomes()])
            early = -np.log(deaths + 0.5)
            c = concordance(deaths, ridge_cross_validated(table, early))
            rows.append(
                Row(
                    "information",
                    source,
                    regimen,
                    "C of survival",
                    0.675,
                    0.60,
                    0.75,
                    c,
                    len(deaths),
                    "published",
                )
            )
        return rows

    def biology(self) -> list[Row]:
        """Doubling times, thrombus, lipiodol and new lesions."""
        people = [m.person for arm in self.arms.values() for m in arm.members]
        tvdt = np.array([p.plan.tvdt_months for p in people])
        rows = [
            _share("growth", "volume doubles within 4 months", 0.35, tvdt < 4.0),
            _share("growth", "volume doubles within 4 to 9 months", 0.27, (tvdt >= 4.0) & (tvdt <= 9.0)),
            _share("growth", "volume doubles after 9 months", 0.38, tvdt > 9.0),
            _free(
                "growth", "all", "", "median doubling time, months (4.6)", float(np.median(tvdt)), len(tvdt)
            ),
        ]
        for (source, regimen), arm in self.arms.items():
            new = float(np.mean([len(f.follow_ups[-1].new) > 0 for f in arm.followed]))
            rows.append(
                _free(
                    "new lesions",
                    source,
                    regimen,
                    "share with new lesions at 12 months",
                    new,
                    len(arm.followed),
                )
            )
            if arm.regimen.tace:
                kept = [_retention(f) for f in arm.followed]
                rows.append(
                    _free(
                        "lipiodol",
                        source,
                        regimen,
                        "tumour that reads as lipiodol at 1 month",
                        float(np.mean(kept)),
                        len(kept),
                    )
                )
        return rows


def _share(topic: str, quantity: str, target: float, values: Mask) -> Row:
    return Row(
        topic,
        "all",
        "",
        quantity,
        target,
        target - 0.05,
        target + 0.05,
        float(values.mean()),
        len(values),
        "published",
    )


def _free(topic: str, source: str, regimen: str, quantity: str, value: float, n: int) -> Row:
    nan = float("nan")
    return Row(topic, source, regimen, quantity, nan, nan, nan, value, n, "")


def _change(followed: Followed, criterion: str) -> float:
    base = followed.member.baseline
    start = assess(base, (base,))[0]
    seen = next(a for a in followed.assessments if a.months == 3.0)
    if criterion == "recist11":
        return seen.whole_mm / max(start.whole_mm, 1e-6) - 1.0
    return seen.viable_mm / max(start.viable_mm, 1e-6) - 1.0


def _retention(followed: Followed) -> float:
    first = followed.follow_ups[0]
    tumour = sum(v.viable_ml + v.necrosis_ml + v.lipiodol_ml for v in first.lesions)
    return sum(v.lipiodol_ml for v in first.lesions) / max(tumour, 1e-6)


# ---------------------------------------------------------------- what can be known from a baseline


def observables(member: Member) -> FloatArray:
    """Return clinical values and simple radiomics of a baseline, as one would measure them."""
    person, base = member.person, member.baseline
    rng = member.course.streams.derive("radiomics")
    look = person.appearance
    total = base.viable_ml + sum(v.necrosis_ml for v in base.lesions)
    volumes = sorted((v.viable_ml + v.necrosis_ml for v in base.lesions), reverse=True)
    lesions = member.course.disease.lesions
    return np.array(
        [
            *_clinical(person),
            np.log(volumes[0] + 0.5),
            np.log(total + 0.5),
            np.log(max(v.whole_mm for v in base.lesions)),
            np.log(len(base.lesions)),
            sum(v.necrosis_ml for v in base.lesions) / max(total, 1e-6),
            look.arterial_contrast_hu + rng.normal(0, 4.0),
            look.portal_contrast_hu + rng.normal(0, 4.0),
            look.mosaic_hu + rng.normal(0, 2.0),
            look.capsule + rng.normal(0, 0.2),
            look.infiltrative + rng.normal(0, 0.2),
            _surface(lesions[0]),
        ]
    )


def _clinical(person: Person) -> list[float]:
    c = person.clinical
    logs = [
        float(np.log(float(c[n]) + 1.0))
        for n in ("afp", "bilirubin", "alt", "ast", "crp", "platelets", "neutrophils")
    ]
    plain = (
        "age",
        "albumin",
        "inr",
        "ecog",
        "capsule",
        "diffuse_type",
        "vascular_invasion",
        "metastasis",
        "lymph_nodes",
    )
    return [
        *logs,
        *(float(c[n]) for n in plain),
        float(c["ascites"] != "none"),
        float(person.plan.thrombus >= 3),
    ]


def _surface(lesion: Lesion) -> float:
    """Share of the tumour within 5 mm of its edge: small for compact tumours."""
    inside = lesion.domain & (lesion.depth > 0)
    return float((lesion.depth[inside] < 5.0).mean()) if inside.any() else 0.0


def _folds(count: int) -> FloatArray:
    return np.arange(count, dtype=np.float64) % FOLDS


def cross_validated(table: FloatArray, labels: FloatArray) -> FloatArray:
    """Return log odds of each patient from a ridge logistic regression on the others."""
    folds, out = _folds(len(labels)), np.zeros(len(labels))
    for fold in range(FOLDS):
        rest = folds != fold
        out[~rest] = ResponseCurve.fit(table[rest], labels[rest], ridge=8.0).logit(table[~rest])
    return out


def ridge_cross_validated(table: FloatArray, values: FloatArray) -> FloatArray:
    """Return predictions of each patient from a ridge regression on the others."""
    folds, out = _folds(len(values)), np.zeros(len(values))
    for fold in range(FOLDS):
        rest = folds != fold
        mean, spread = table[rest].mean(axis=0), np.maximum(table[rest].std(axis=0), 1e-6)
        design = (table - mean) / spread
        x, y = design[rest], values[rest] - values[rest].mean()
        weights = np.linalg.solve(x.T @ x + 20.0 * np.eye(x.shape[1]), x.T @ y)
        out[~rest] = design[~rest] @ weights
    return out


def auroc(labels: FloatArray, scores: FloatArray) -> float:
    """Return the area under the ROC curve."""
    positive, negative = scores[labels > 0.5], scores[labels <= 0.5]
    above = (positive[:, None] > negative[None, :]).mean()
    return float(above + 0.5 * (positive[:, None] == negative[None, :]).mean())


def concordance(times: FloatArray, risk: FloatArray) -> float:
    """Return Harrell's C without censoring: share of pairs in which who dies first has the higher risk."""
    earlier = times[:, None] < times[None, :]
    higher = risk[:, None] > risk[None, :]
    return float(higher[earlier].mean())


# ---------------------------------------------------------------- covariates


def covariates(
    source_id: str, source: Source, parameters: SimulationParameters, count: int, seed: int
) -> list[Row]:
    """Return the covariates of a source beside its table, with the interval of its n."""
    people = [p for p, _, _ in Crowd.draw(source_id, count, parameters, seed).people]
    values = [p.clinical for p in people]
    shares: dict[str, tuple[float, list[bool]]] = {
        "male": (source.male, [v["sex"] == "M" for v in values]),
        "hepatitis B": (source.hbv, [bool(v["hepatitis_b"]) for v in values]),
        "ECOG 1": (source.ecog1, [v["ecog"] == 1 for v in values]),
        "ascites": (source.ascites, [v["ascites"] != "none" for v in values]),
        "cirrhosis": (source.cirrhosis, [bool(v["cirrhosis"]) for v in values]),
        "vascular invasion": (source.vascular_invasion, [bool(v["vascular_invasion"]) for v in values]),
        "metastasis": (source.metastasis, [bool(v["metastasis"]) for v in values]),
        "more than 3 tumours": (source.number[3], [float(v["tumour_number"]) > 3 for v in values]),
        "capsule": (source.capsule, [bool(v["capsule"]) for v in values]),
        "diffuse type": (source.diffuse, [bool(v["diffuse_type"]) for v in values]),
    }
    shares |= {
        f"{name} {limit:g} or more": (1.0 - _at(table, limit), [float(v[column]) >= limit for v in values])
        for name, column, table, limit in (
            ("AFP", "afp", source.afp, 400.0),
            ("diameter", "largest_tumour", source.diameter_mm, 100.0),
            ("diameter", "largest_tumour", source.diameter_mm, 50.0),
        )
    }
    kind = "recalled" if source.recalled else "published"
    rows = [
        Row(
            "covariates",
            source_id,
            "",
            name,
            target,
            *interval(target, source.n),
            float(np.mean(found)),
            count,
            kind,
        )
        for name, (target, found) in shares.items()
    ]
    for name in ("albumin", "bilirubin", "alt", "ast", "inr", "platelets", "age"):
        mean, sd = getattr(source, name)
        half = 1.96 * sd / np.sqrt(source.n)
        found = float(np.mean([float(v[name]) for v in values]))
        rows.append(
            Row(
                "covariates",
                source_id,
                "",
                f"{name}, mean",
                mean,
                mean - half,
                mean + half,
                found,
                count,
                kind,
            )
        )
    return rows


def _at(table: Sequence[tuple[float, float]], value: float) -> float:
    p, values = np.array(table).T
    return float(np.interp(value, values, p))


def populations(
    parameters: SimulationParameters,
    targets: Targets,
    patients: int,
    bodies: Sequence[Anatomy],
    seed: int,
) -> dict[str, tuple[Member, ...]]:
    """Draw a population of every source that a target names."""
    sources = sorted({t.source for t in targets.response})
    return {s: population(s, patients, parameters, bodies, seed) for s in sources}
