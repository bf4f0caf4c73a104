"""Cohorts of known truth for the benchmark of the comparison; parameters and digest are frozen.

Every patient has a true median of survival under every regimen. What a cohort shows is one survival time,
under the regimen that the patient's own covariates made likely, and often censored. Covariates stand at
the start of treatment: nothing that is known later decides the regimen, so there is no immortal time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import Field
from scipy.special import expit, gammaincinv

from inference.comparison.cohort import ComparisonCohort
from inference.randomness import RandomStreams
from inference.results import FloatArray
from inference.settings import Frozen

PACKAGE = "inference.comparison"
TABLE, DIGEST = "benchmark_cohort.yaml", "benchmark_cohort.sha256"
GENERATOR_VERSION = "1"
"""Changes when code changes patients of the same parameters; part of the digest."""

Terms = Mapping[str, float]
"""Coefficients of a linear predictor by the name of the term, with its `intercept`."""


class Continuous(Frozen):
    """A covariate that is normal, or normal in its logarithm."""

    burden: float
    reserve: float
    own: float
    mean: float
    sd: float = Field(gt=0)


class Binary(Frozen):
    """A covariate that is there or not."""

    intercept: float
    burden: float
    reserve: float


class Residual(Frozen):
    """Generalised gamma residual of log time."""

    sigma: float = Field(gt=0)
    q: float = Field(gt=0)


class Censoring(Frozen):
    """How long patients are followed, in months."""

    shortest: float = Field(gt=0)
    longest: float = Field(gt=0)
    lost_per_month: float = Field(ge=0)


class Hidden(Frozen):
    """A confounder that is in no table."""

    prognosis: float
    assignment: Terms


class Scenario(Frozen):
    """What is true of the regimens, and how patients came by them."""

    effects: Mapping[str, Terms] = Field(default_factory=dict)
    assignment_slopes: float = 1.0
    assignment_intercepts: Terms = Field(default_factory=dict)
    hidden: Hidden | None = None


class BenchmarkParameters(Frozen):
    """The table `benchmark_cohort.yaml`."""

    patients: int = Field(gt=0)
    new_patients: int = Field(gt=0)
    regimens: tuple[str, ...]
    continuous: Mapping[str, Continuous]
    binary: Mapping[str, Binary]
    prognosis: Terms
    assignment: Mapping[str, Terms]
    residual: Residual
    censoring: Censoring
    scenarios: Mapping[str, Scenario]


@dataclass(frozen=True, slots=True)
class BenchmarkReplicate:
    """One cohort and the patients whom the comparison is asked about.

    Attributes
    ----------
    covariates : array, (new patients, covariates)
        Of the new patients, in the order of the cohort's columns.
    true_medians : array, (new patients, regimens)
        Months, in the order of the cohort's regimens.
    """

    cohort: ComparisonCohort
    covariates: FloatArray
    true_medians: FloatArray


def _read(name: str) -> str:
    return resources.files(PACKAGE).joinpath(name).read_text(encoding="utf-8")


def load_benchmark() -> BenchmarkParameters:
    """Return the frozen parameters of the benchmark."""
    return BenchmarkParameters.model_validate(yaml.safe_load(_read(TABLE)))


def benchmark_digest() -> str:
    """Return the SHA-256 over the generator's version and its table."""
    total = hashlib.sha256(GENERATOR_VERSION.encode() + b"\0")
    total.update(_read(TABLE).encode("utf-8"))
    return total.hexdigest()


def frozen_benchmark_digest() -> str:
    """Return the digest that was written when the benchmark was frozen."""
    return _read(DIGEST).split()[0]


def draw_replicate(
    parameters: BenchmarkParameters, scenario: str, streams: RandomStreams, number: int
) -> BenchmarkReplicate:
    """Draw one cohort of a scenario, and new patients of the same population.

    Raises
    ------
    KeyError
        No such scenario.
    """
    rules = parameters.scenarios[scenario]
    rng = streams.derive("comparison benchmark", scenario, number)
    people = _People.drawn(parameters, parameters.patients + parameters.new_patients, rng)
    log_medians = _log_medians(parameters, rules, people)
    known = slice(0, parameters.patients)
    regimen = _assigned(parameters, rules, people, rng)[known]
    own = log_medians[known][np.arange(parameters.patients), regimen]
    months, died = _followed(parameters, own, rng)
    return BenchmarkReplicate(
        ComparisonCohort(
            names=people.names,
            covariates=people.values[known],
            regimens=parameters.regimens,
            regimen=regimen,
            months=months,
            event=died,
        ),
        people.values[parameters.patients :],
        np.exp(log_medians[parameters.patients :]),
    )


@dataclass(frozen=True, slots=True)
class _People:
    """Covariates as a table shows them, the terms of linear predictors, and the hidden confounder."""

    names: tuple[str, ...]
    values: FloatArray
    terms: Mapping[str, FloatArray]
    hidden: FloatArray

    @classmethod
    def drawn(cls, parameters: BenchmarkParameters, n: int, rng: np.random.Generator) -> _People:
        burden, reserve = rng.standard_normal((2, n))
        terms: dict[str, FloatArray] = {}
        values: list[FloatArray] = []
        for name, c in parameters.continuous.items():
            terms[name] = c.burden * burden + c.reserve * reserve + c.own * rng.standard_normal(n)
            values.append(c.mean + c.sd * terms[name])
        for name, b in parameters.binary.items():
            chance = expit(b.intercept + b.burden * burden + b.reserve * reserve)
            terms[name] = (rng.random(n) < chance).astype(np.float64)
            values.append(terms[name])
        terms["albi_squared"] = terms["albi"] ** 2 - 1.0
        terms["tanh_diameter"] = np.tanh(terms["log_diameter"])
        names = (*parameters.continuous, *parameters.binary)
        return cls(names, np.stack(values, axis=1), terms, rng.standard_normal(n))

    def predictor(self, coefficients: Terms, slopes: float = 1.0) -> FloatArray:
        """Sum the terms, (n,), all but the intercept multiplied by `slopes`."""
        total = np.full(len(self.hidden), coefficients.get("intercept", 0.0))
        for name, coefficient in coefficients.items():
            if name != "intercept":
                total = total + slopes * coefficient * self.terms[name]
        return total


def _log_medians(parameters: BenchmarkParameters, rules: Scenario, people: _People) -> FloatArray:
    reference = people.predictor(parameters.prognosis)
    if rules.hidden is not None:
        reference = reference + rules.hidden.prognosis * people.hidden
    effects = [people.predictor(rules.effects.get(r, {})) for r in parameters.regimens]
    return np.stack([reference + effect for effect in effects], axis=1)


def _assigned(
    parameters: BenchmarkParameters, rules: Scenario, people: _People, rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    logits = []
    for regimen in parameters.regimens:
        terms = dict(parameters.assignment.get(regimen, {}))
        terms["intercept"] = rules.assignment_intercepts.get(regimen, terms.get("intercept", 0.0))
        logit = people.predictor(terms, rules.assignment_slopes)
        if rules.hidden is not None:
            logit = logit + rules.hidden.assignment.get(regimen, 0.0) * people.hidden
        logits.append(logit)
    # The largest of logits with Gumbel noise is a draw from their multinomial distribution.
    noisy = np.stack(logits, axis=1) + rng.gumbel(size=(len(people.hidden), len(logits)))
    chosen: npt.NDArray[np.intp] = np.argmax(noisy, axis=1)
    return chosen


def _followed(
    parameters: BenchmarkParameters, log_median: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return months and events; time is the median times a generalised gamma factor of median 1.

    Prentice 1974, Biometrika 61:539: (sigma / q) log(q^2 G), G gamma of shape 1 / q^2.
    """
    n, r, c = len(log_median), parameters.residual, parameters.censoring
    shape = 1.0 / r.q**2
    gamma = rng.gamma(shape, size=n) / gammaincinv(shape, 0.5)
    alive = np.exp(log_median + r.sigma / r.q * np.log(gamma))
    closing = rng.uniform(c.shortest, c.longest, n)
    lost = rng.exponential(1.0 / c.lost_per_month, n) if c.lost_per_month > 0 else np.full(n, np.inf)
    followed = np.minimum(closing, lost)
    return np.minimum(alive, followed), alive <= followed
