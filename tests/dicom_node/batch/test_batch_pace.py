"""Window, rate limits, and the forecast of a batch's end."""

from __future__ import annotations

from datetime import UTC, datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from dicom_node.batch.progress import pace_of, progress_of
from dicom_node.batch.settings import BatchSettings, NightlyWindow
from dicom_node.batch.states import BatchEvent
from dicom_node.batch.throttle import Throttle, Window, next_start
from tests.conftest import DrivenClock
from tests.dicom_node.batch.batch_rows import LEASE_S, ledger_in, plan

NIGHT = NightlyWindow(start=time(20), end=time(6))
ALWAYS = Window(None, None)
HOUR = 3600.0


def at(day: int, hour: int, minute: int = 0, month: int = 1) -> float:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC).timestamp()


def test_a_window_over_midnight() -> None:
    window = Window.nightly(NIGHT, ZoneInfo("UTC"))
    opened = {hour: window.is_open(at(5, hour)) for hour in (0, 5, 6, 12, 19, 20, 23)}
    assert opened == {0: True, 5: True, 6: False, 12: False, 19: False, 20: True, 23: True}
    assert window.next_change(at(5, 12)) == at(5, 20)
    assert window.next_change(at(5, 20)) == at(6, 6)


def test_a_window_within_a_day() -> None:
    window = Window.nightly(NightlyWindow(start=time(1, 30), end=time(4)), ZoneInfo("UTC"))
    assert [window.is_open(at(5, h, m)) for h, m in ((1, 29), (1, 30), (3, 59), (4, 0))] == [
        False,
        True,
        True,
        False,
    ]


def test_the_window_is_of_local_time_and_follows_summer_time() -> None:
    window = Window.nightly(NIGHT, ZoneInfo("Europe/Berlin"))
    assert window.is_open(at(5, 19)) is True  # 20:00 in winter
    assert window.is_open(at(5, 18, 59)) is False
    assert window.is_open(at(5, 18, month=7)) is True  # 20:00 in summer
    assert window.is_open(at(5, 4, month=7)) is False
    # The night of 28 to 29 March 2026 loses an hour, that of 24 to 25 October gains one.
    for day, month, hours in ((28, 3, 9), (24, 10, 11)):
        noon = at(day, 11, month=month)
        assert window.open_between(noon, noon + 24 * HOUR) == pytest.approx(hours * HOUR)


def test_work_goes_on_in_the_next_night() -> None:
    window = Window.nightly(NIGHT, ZoneInfo("UTC"))
    assert window.after(at(5, 22), 4 * HOUR) == at(6, 2)
    assert window.after(at(5, 12), HOUR) == at(5, 21)
    assert window.after(at(5, 22), 10 * HOUR) == at(6, 22)
    assert ALWAYS.after(100.0, 50.0) == 150.0


def test_a_time_without_quotes_is_refused() -> None:
    with pytest.raises(ValidationError, match="in quotes"):
        NightlyWindow.model_validate({"start": 1200, "end": "06:00"})
    with pytest.raises(ValidationError, match="are the same"):
        NightlyWindow(start=time(6), end=time(6))


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="no time zone"):
        BatchSettings(time_zone="Europe/Nowhere")


@pytest.mark.parametrize("priority", [0, 50])
def test_batches_cannot_have_the_priority_of_live_work(priority: int) -> None:
    with pytest.raises(ValidationError):
        BatchSettings(priority=priority)


def test_the_mean_rate_of_bytes_stays_below_the_limit(clock: DrivenClock) -> None:
    throttle = Throttle(1000.0, clock, clock.advance)
    start = clock.now
    for _ in range(20):
        throttle.used(500)
    assert clock.now - start == pytest.approx(20 * 500 / 1000.0)
    clock.advance(100)  # idle time is not saved up
    later = clock.now
    throttle.used(1000)
    assert clock.now - later == pytest.approx(1.0)


def test_without_a_limit_nothing_waits(clock: DrivenClock) -> None:
    start = clock.now
    Throttle(None, clock, clock.advance).used(10**12)
    assert clock.now == start


def test_studies_per_hour_is_a_distance_between_starts() -> None:
    assert next_start(1000.0, 60.0) == 1060.0
    assert next_start(None, 60.0) == 0.0
    assert next_start(1000.0, None) == 0.0


def test_the_pace_of_studies_that_end_in_bunches() -> None:
    """Four end together every minute: 240 in an hour, though most intervals are zero."""
    ends = [60.0 * (n // 4) for n in range(101)]
    pace = pace_of(ends, 8, ALWAYS)
    assert pace is not None
    assert pace.studies_per_hour == pytest.approx(240)


def test_one_long_pause_does_not_move_the_pace() -> None:
    ends = [60.0 * n for n in range(50)]
    ends += [ends[-1] + 20 * HOUR + 60.0 * n for n in range(50)]
    pace = pace_of(ends, 5, ALWAYS)
    assert pace is not None
    assert pace.studies_per_hour == pytest.approx(60)
    assert (pace.slow, pace.fast) == (pytest.approx(60), pytest.approx(60))


def test_hours_in_which_the_window_was_closed_do_not_count() -> None:
    """Six ends before 6 in the morning and six after 20 in the evening, ten minutes between them."""
    ends = [at(5, 5, 10 * n) for n in range(6)] + [at(5, 20, 10 * n) for n in range(6)]
    pace = pace_of(ends, 11, Window.nightly(NIGHT, ZoneInfo("UTC")))
    assert pace is not None
    assert pace.studies_per_hour == pytest.approx(11 * HOUR / (60 * 60 + 50 * 60))


def test_too_few_ends_give_no_pace() -> None:
    assert pace_of([], 5, ALWAYS) is None
    assert pace_of([1.0, 2.0, 3.0, 4.0, 5.0], 5, ALWAYS) is None
    assert pace_of([1.0] * 6, 5, ALWAYS) is None


def test_progress_and_forecast_of_a_batch(tmp_path: Path, clock: DrivenClock) -> None:
    ledger = ledger_in(tmp_path, clock)
    batch = plan(ledger, *(f"1.{n}" for n in range(100)))
    settings = BatchSettings(studies_in_flight=1)
    assert ledger.acquire(batch.id, "me", LEASE_S)
    assert progress_of(ledger, batch, settings, clock.now).ends_at is None
    for _ in range(40):
        row = ledger.claim(batch.id, "me")
        assert row is not None
        clock.advance(30)
        ledger.change(row, "me", BatchEvent.RETRIEVAL_POINTLESS, "nothing")
    progress = progress_of(ledger, batch, settings, clock.now)
    assert (progress.total, progress.ended, progress.left, progress.share) == (100, 40, 60, 0.4)
    assert progress.pace is not None
    assert progress.pace.studies_per_hour == pytest.approx(120)
    assert progress.ends_at == pytest.approx(clock.now + 60 * 30)
    assert progress.ends_between == (pytest.approx(progress.ends_at), pytest.approx(progress.ends_at))
    night = settings.model_copy(update={"window": NIGHT})
    elsewhere = progress_of(ledger, batch, night, clock.now)
    assert elsewhere.ends_at is None or elsewhere.ends_at >= progress.ends_at
