"""The heat map of regimens: benefits have colours, refusals have words and no colour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

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
from inference.results import NotAssessed, Reason
from reporting.comparison_pictures import SHORT_REASONS, heat_map_picture
from reporting.comparison_words import percent
from reporting.drawing import Heading

NAMES = {"tace": "TACE", "haic": "HAIC", "triple": "TACE + lenvatinib + pembrolizumab"}
HEADING = Heading("Comparison of regimens", "Expected overall survival", "a test", "RESEARCH ONLY")
NO_OVERLAP = NotAssessed(Reason.NO_OVERLAP, "Of patients like this one, 3 % had haic.")
FEW = NotAssessed(Reason.TOO_FEW_EVENTS, "Under triple, 8 deaths were seen in 30 patients; 30 are needed.")


def estimate(regimen: str, months: float) -> RegimenEstimate:
    median = Interval(months, months - 3, months + 4)
    return RegimenEstimate(regimen, 200, 120, 0.4, 40.0, median, Interval(18.0, 16.0, 20.0))


def pair(first: str, second: str, months: float) -> PairBenefit:
    return PairBenefit(
        first, second, Interval(months, months - 4, months + 4), Interval(2.0, 1.0, 3.0), 0.9,
        EValue(0.6, 2.7, 1.9), (HiddenConfounding(2.0, 0.4, months - 5, 0.3),),
    )  # fmt: skip


def comparison(months: float = 8.0) -> RegimenComparison:
    return RegimenComparison(
        regimens=(
            estimate("tace", 14.0),
            estimate("haic", 14.0 + months),
            RegimenEstimate("triple", 30, 8, None, 20.0, FEW, FEW),
        ),
        pairs=(pair("tace", "haic", -months), pair("haic", "tace", months)),
        tests=GlobalTests(0.001, 0.2),
        rule=ComparisonRule(),
        recommended="haic",
        against="tace",
        benefit_months=months,
        confidence=0.9,
        reasons=(FEW,),
        notes=("A note.",),
    )


def cell(picture: np.ndarray, row: int, column: int) -> np.ndarray:
    """Return the middle of the lower part of a cell of three, which holds no letters."""
    left, top, width, height = 0.135 * 1600, 0.20 * 1000, 0.49 * 1600 / 3, 0.60 * 1000 / 3
    y, x = int(top + (row + 0.9) * height), int(left + (column + 0.5) * width)
    return picture[y - 3 : y + 3, x - 30 : x + 30].reshape(-1, 3).astype(int)


def test_a_benefit_is_green_and_a_loss_brown():
    picture = heat_map_picture(comparison(), NAMES, HEADING)
    assert picture.shape == (1000, 1600, 3)
    gain, loss = cell(picture, 1, 0).mean(0), cell(picture, 0, 1).mean(0)
    assert gain[1] > gain[0] + 15
    assert loss[0] > loss[2] + 15


def test_a_larger_benefit_is_darker():
    small, large = (cell(heat_map_picture(comparison(m), NAMES, HEADING), 1, 0).mean() for m in (1.0, 11.0))
    assert large < small - 60


def test_a_refused_cell_has_no_colour():
    picture = heat_map_picture(comparison(), NAMES, HEADING)
    refused = cell(picture, 2, 0)
    assert np.ptp(refused, axis=1).max() < 15
    assert refused.mean() > 225


def test_a_refused_pair_looks_other_than_an_assessed_one_and_nothing_is_framed():
    found = comparison()
    pairs = (
        PairBenefit("tace", "haic", NO_OVERLAP, NO_OVERLAP, NO_OVERLAP),
        PairBenefit("haic", "tace", NO_OVERLAP, NO_OVERLAP, NO_OVERLAP),
    )
    refused = replace(
        found, pairs=pairs, recommended=None, against=None, benefit_months=None, confidence=None
    )
    picture = heat_map_picture(refused, NAMES, HEADING)
    assert np.ptp(cell(picture, 1, 0), axis=1).max() < 15
    orange = (np.abs(picture[:, :1000].astype(int) - [230, 159, 0]).max(2) < 12).sum()
    framed = (
        np.abs(heat_map_picture(found, NAMES, HEADING)[:, :1000].astype(int) - [230, 159, 0]).max(2) < 12
    ).sum()
    assert framed > 500
    assert orange < 100


def test_no_words_leave_the_picture():
    long = NotAssessed(Reason.NO_OVERLAP, " ".join(["Of patients like this one few had the regimen."] * 6))
    picture = heat_map_picture(replace(comparison(), reasons=(long, FEW)), NAMES, HEADING)
    assert (picture[:, -12:] == 255).all()


@pytest.mark.parametrize(("value", "words"), [(0.9969, "> 99 %"), (0.004, "< 1 %"), (0.8349, "83 %")])
def test_no_probability_is_shown_as_certain(value, words):
    assert percent(value) == words


def test_every_refusal_of_the_comparison_has_words_for_a_cell():
    of_the_comparison = {
        Reason.NO_OVERLAP, Reason.BEYOND_FOLLOW_UP, Reason.TOO_FEW_EVENTS, Reason.OUT_OF_DISTRIBUTION,
        Reason.NO_EFFECT_SHOWN,
    }  # fmt: skip
    assert of_the_comparison <= set(SHORT_REASONS)
