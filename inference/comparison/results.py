"""What the comparison returns for one patient: frozen, with a reason beside every refusal."""

from __future__ import annotations

from dataclasses import dataclass

from inference.comparison.rule import ComparisonRule
from inference.results import NotAssessed


@dataclass(frozen=True, slots=True)
class GlobalTests:
    """p of no average effect, of no interaction with any covariate, and of neither.

    `any_effect_p` is the smaller of the two, doubled (Bonferroni).
    """

    average_effect_p: float
    heterogeneity_p: float

    @property
    def any_effect_p(self) -> float:
        """P of no effect of any kind."""
        return min(1.0, 2.0 * min(self.average_effect_p, self.heterogeneity_p))


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % limits over the uncertainty of parameters.

    The model is never quite the true one: of true benefits in the benchmark, these limits held about 90 %
    where effects differ between patients, and 96 % where they do not.
    """

    estimate: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class RegimenEstimate:
    """Survival of the patient under one regimen.

    Attributes
    ----------
    patients, events : int
        Of the cohort, under this regimen.
    propensity : float or None
        Probability that a patient like this one had the regimen; None where the regimen is not compared.
    follow_up_months : float
        Until when enough patients of the regimen were under observation.
    median_months, rmst36 : Interval or NotAssessed
        Median, and mean survival within 36 months.
    """

    regimen_id: str
    patients: int
    events: int
    propensity: float | None
    follow_up_months: float
    median_months: Interval | NotAssessed
    rmst36: Interval | NotAssessed


@dataclass(frozen=True, slots=True)
class EValue:
    """How strong a hidden confounder would have to be to explain the benefit away.

    Risk ratio by which it would have to be tied to both the regimen and death, beyond all that was measured;
    1 means that no confounder is needed.

    Attributes
    ----------
    risk_ratio : float
        Of death until the median of the worse regimen.
    of_estimate, of_limit : float
        For the estimate, and for the confidence limit nearer to no effect.
    """

    risk_ratio: float
    of_estimate: float
    of_limit: float


@dataclass(frozen=True, slots=True)
class HiddenConfounding:
    """What would be left of a benefit if a confounder of this strength had been overlooked.

    Attributes
    ----------
    time_ratio : float
        Those who have the hidden trait live this many times as long.
    imbalance : float
        Share with the trait under the regimen, less the share under the other one.
    benefit_months : float
    confidence : float
        As the rule takes it.
    """

    time_ratio: float
    imbalance: float
    benefit_months: float
    confidence: float


@dataclass(frozen=True, slots=True)
class PairBenefit:
    """One regimen against another, for the patient.

    Attributes
    ----------
    benefit_months : Interval or NotAssessed
        Median under `regimen_id`, cut at the end of its follow-up, less the median under `against`.
    rmst36_difference : Interval or NotAssessed
    confidence : float or NotAssessed
        Calibrated probability that the benefit is larger than the rule asks.
    e_value : EValue or None
        None where the benefit is not assessed.
    hidden : tuple of HiddenConfounding
        Empty where the benefit is not assessed, or is none.
    at_least : bool
        The median under `regimen_id` lies beyond its follow-up: the benefit is a lower bound.
    """

    regimen_id: str
    against: str
    benefit_months: Interval | NotAssessed
    rmst36_difference: Interval | NotAssessed
    confidence: float | NotAssessed
    e_value: EValue | None = None
    hidden: tuple[HiddenConfounding, ...] = ()
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class RegimenComparison:
    """The regimens against each other for one patient.

    Attributes
    ----------
    regimens : tuple of RegimenEstimate
        The first is the reference.
    pairs : tuple of PairBenefit
        Every ordered pair.
    tests : GlobalTests
        Of the cohort.
    rule : ComparisonRule
        That was applied.
    recommended : str or None
    against : str or None
        What the recommended regimen was held against: the reference, or the best other one.
    benefit_months, confidence : float or None
        Of the recommended regimen; None together with it.
    reasons : tuple of NotAssessed
        Why nothing, or not more, is recommended.
    notes : tuple of str
        What people are told besides.
    """

    regimens: tuple[RegimenEstimate, ...]
    pairs: tuple[PairBenefit, ...]
    tests: GlobalTests
    rule: ComparisonRule
    recommended: str | None
    against: str | None
    benefit_months: float | None
    confidence: float | None
    reasons: tuple[NotAssessed, ...]
    notes: tuple[str, ...] = ()

    def pair(self, regimen_id: str, against: str) -> PairBenefit:
        """Return the benefit of one regimen against another.

        Raises
        ------
        KeyError
            There is no such pair.
        """
        for pair in self.pairs:
            if (pair.regimen_id, pair.against) == (regimen_id, against):
                return pair
        raise KeyError(f"{regimen_id} is not compared with {against}")
