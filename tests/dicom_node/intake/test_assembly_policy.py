from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dicom_node.intake.assembly import (
    Arrivals,
    Complete,
    Confirm,
    Fetch,
    Hold,
    PacsSeries,
    SeriesArrival,
    Wait,
    decide,
)
from dicom_node.settings import AssemblySettings

ALONE = AssemblySettings(series_quiet_period_s=20, study_quiet_period_s=60)
ASKING = AssemblySettings(
    series_quiet_period_s=20, study_quiet_period_s=60, maximum_wait_s=600, confirm_with="pacs"
)
T0 = 1000.0


def _arrivals(*series: tuple[str, int, float], conflicts: bool = False) -> Arrivals:
    return Arrivals({uid: SeriesArrival(n, at) for uid, n, at in series}, T0, conflicts)


def test_a_study_does_not_fire_while_a_large_series_is_still_arriving() -> None:
    arrivals = _arrivals(("small", 3, T0), ("large", 500, T0 + 300))
    assert decide(arrivals, ALONE, T0 + 301) == Wait(T0 + 360)


def test_a_gap_shorter_than_the_quiet_period_does_not_complete() -> None:
    assert decide(_arrivals(("a", 3, T0)), ALONE, T0 + 59.9) == Wait(T0 + 60)
    assert decide(_arrivals(("a", 3, T0)), ALONE, T0 + 60) == Complete()


def test_a_longer_series_period_counts_for_each_series() -> None:
    settings = AssemblySettings(series_quiet_period_s=90, study_quiet_period_s=30)
    assert decide(_arrivals(("a", 3, T0), ("b", 1, T0 + 10)), settings, T0 + 50) == Wait(T0 + 100)


def test_a_conflict_holds_at_once() -> None:
    decision = decide(_arrivals(("a", 3, T0), conflicts=True), ALONE, T0)
    assert isinstance(decision, Hold)
    assert "same SOP Instance UID" in decision.reason


def test_the_pacs_is_asked_only_when_all_is_quiet() -> None:
    arrivals = _arrivals(("a", 3, T0))
    assert decide(arrivals, ASKING, T0 + 59) == Wait(T0 + 60)
    assert decide(arrivals, ASKING, T0 + 60) == Confirm()


def test_what_the_pacs_has_more_of_is_fetched() -> None:
    pacs = {"a": PacsSeries("CT", 5), "b": PacsSeries("SEG", 1), "c": PacsSeries("PR", 1)}
    assert decide(_arrivals(("a", 3, T0)), ASKING, T0 + 60, pacs) == Fetch(("a", "b"))


def test_agreeing_counts_complete() -> None:
    pacs = {"a": PacsSeries("CT", 3)}
    assert decide(_arrivals(("a", 3, T0)), ASKING, T0 + 60, pacs) == Complete()


def test_a_pacs_that_has_less_is_not_waited_for() -> None:
    assert decide(_arrivals(("a", 3, T0)), ASKING, T0 + 60, {"a": PacsSeries("CT", 1)}) == Complete()


def test_what_cannot_be_fetched_in_time_is_held_with_the_reason() -> None:
    decision = decide(_arrivals(("a", 3, T0)), ASKING, T0 + 600, {"a": PacsSeries("CT", 5)})
    assert isinstance(decision, Hold)
    assert "1 series" in decision.reason


_times = st.lists(st.floats(0, 1000), min_size=1, max_size=8)


@given(times=_times, now=st.floats(0, 3000), series=st.integers(1, 3))
def test_never_complete_before_every_series_and_the_study_were_quiet(
    times: list[float], now: float, series: int
) -> None:
    by_series: dict[str, SeriesArrival] = {}
    for number, at in enumerate(times):
        uid = str(number % series)
        last = max(at, by_series[uid].last_at) if uid in by_series else at
        by_series[uid] = SeriesArrival(1, last)
    decision = decide(Arrivals(by_series, 0.0, False), ALONE, now)
    if now < max(times) + 60:
        assert decision == Wait(max(times) + 60)
    else:
        assert decision == Complete()
