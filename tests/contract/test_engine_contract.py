"""What every job engine must do; run over all implementations."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.database import open_database, reading
from dicom_node.errors import LeaseLost, TransientError
from dicom_node.jobs.engine import Engine, Job, JobState, Report
from dicom_node.jobs.opening import open_engine
from dicom_node.settings import JobSettings
from tests.builders.waiting import until

SETTINGS = JobSettings(
    lease_s=10.0, heartbeat_s=0.05, maximum_attempts=3, backoff_s=(5.0, 30.0), time_limit_s=600.0
)

Workers = Callable[..., Engine]
_SHIFT = (
    "UPDATE procrastinate_jobs SET scheduled_at = scheduled_at - make_interval(secs => :s)",
    "UPDATE procrastinate_workers SET last_heartbeat = last_heartbeat - make_interval(secs => :s)",
)


@pytest.fixture(params=["sqlite", "postgresql"])
def workers(request: pytest.FixtureRequest, tmp_path: Path, clock) -> Iterator[Workers]:
    """Return a function that gives a worker's engine, all on the same jobs.

    PostgreSQL measures by its own clock: there the test's clock goes on by making all times older.
    """
    url = request.getfixturevalue("database_url") if request.param == "postgresql" else ""
    database = open_database(tmp_path, url)
    advance = clock.advance

    def shift(seconds: float) -> None:
        advance(seconds)
        with database.begin() as connection:
            for statement in _SHIFT if url else ():
                connection.execute(sa.text(statement), {"s": seconds})

    clock.advance = shift
    yield lambda name, settings=SETTINGS, **more: open_engine(settings, database, clock, name, **more)
    database.dispose()


def _nothing(_job: Job, _report: Report) -> None:
    return


def _keys_run(engine: Engine) -> list[str]:
    seen: list[str] = []
    while engine.run_one(lambda job, _report: seen.append(job.key)):
        pass
    return seen


def test_a_key_is_accepted_once(workers: Workers) -> None:
    engine = workers("a")
    assert engine.put("k", {"revision_id": 1}, 50)
    assert not engine.put("k", {"revision_id": 2}, 90)
    assert _keys_run(engine) == ["k"]
    assert not engine.put("k", {"revision_id": 1}, 50)
    assert _keys_run(engine) == []


def test_higher_priority_runs_first_and_equals_in_order(workers: Workers) -> None:
    engine = workers("a")
    for key, priority in (("low", 10), ("first", 50), ("second", 50), ("urgent", 90)):
        engine.put(key, {}, priority)
    assert _keys_run(engine) == ["urgent", "first", "second", "low"]


def test_a_worker_takes_jobs_of_the_queues_that_it_serves(workers: Workers) -> None:
    engine = workers("any")
    engine.put("cpu", {}, 50)
    engine.put("gpu", {}, 90, "gpu")
    engine.put("other", {}, 70, "other")
    assert _keys_run(workers("a", SETTINGS.model_copy(update={"queues": ("gpu", "none")}))) == ["gpu"]
    assert _keys_run(workers("b", SETTINGS.model_copy(update={"queues": ("default",)}))) == ["cpu"]
    assert [s.key for s in engine.status()] == ["other"]
    assert _keys_run(engine) == ["other"]


def test_a_lost_job_goes_back_to_its_own_queue(workers: Workers, clock) -> None:
    of_gpu = SETTINGS.model_copy(update={"queues": ("gpu",)})
    gpu, other = (
        workers("gpu", of_gpu),
        workers("other", SETTINGS.model_copy(update={"queues": ("default",)})),
    )
    gpu.put("k", {}, 50, "gpu")

    def killed(_job: Job, _report: Report) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gpu.run_one(killed)
    clock.advance(11.0)
    assert _keys_run(other) == []
    assert _keys_run(workers("second", of_gpu)) == ["k"]


def test_the_payload_comes_back(workers: Workers) -> None:
    engine = workers("a")
    engine.put("k", {"revision_id": 7, "text": "ü"}, 50)
    got: list[Job] = []
    engine.run_one(lambda job, _report: got.append(job))
    assert dict(got[0].payload) == {"revision_id": 7, "text": "ü"}
    assert got[0].attempt == 1


def test_a_transient_error_is_tried_again_after_its_wait_and_at_last_dead(workers: Workers, clock) -> None:
    engine = workers("a")
    engine.put("k", {}, 50)

    def away(_job: Job, _report: Report) -> None:
        raise TransientError("peer away")

    assert engine.run_one(away)
    assert not engine.run_one(away)
    clock.advance(5.0)
    assert engine.run_one(away)
    clock.advance(29.0)
    assert not engine.run_one(away)
    clock.advance(1.0)
    assert engine.run_one(away)
    (status,) = engine.status(["k"])
    assert (status.state, status.attempts, status.error) == (JobState.DEAD, 3, "peer away")
    assert [s.key for s in engine.bury()] == ["k"]
    clock.advance(1000.0)
    assert not engine.run_one(_nothing)


def test_another_error_is_not_tried_again(workers: Workers, clock) -> None:
    engine = workers("a")
    engine.put("k", {}, 50)
    with pytest.raises(ZeroDivisionError):
        engine.run_one(lambda _job, _report: 1 / 0)
    clock.advance(1000.0)
    assert not engine.run_one(_nothing)
    assert engine.status(["k"])[0].state is JobState.DEAD


def test_a_lost_worker_s_job_passes_to_another_when_its_lease_runs_out(workers: Workers, clock) -> None:
    # One that does not renew its lease is what a dead worker looks like.
    silent = SETTINGS.model_copy(update={"heartbeat_s": 1000.0})
    engine, other = workers("a", silent), workers("b")
    engine.put("k", {}, 50)
    entered, leave = threading.Event(), threading.Event()
    reports: list[type[BaseException]] = []

    def hang(_job: Job, report: Report) -> None:
        entered.set()
        leave.wait(120)
        try:
            report("late", 0.5)
        except LeaseLost as error:
            reports.append(type(error))
            raise

    thread = threading.Thread(target=engine.run_one, args=(hang,))
    thread.start()
    try:
        assert entered.wait(60)
        assert not other.run_one(_nothing)
        clock.advance(11.0)
        assert other.run_one(_nothing)
    finally:
        leave.set()
        thread.join(60)
    assert reports == [LeaseLost]
    assert engine.status(["k"])[0].state is JobState.DONE


def test_a_running_job_keeps_its_lease(workers: Workers, clock) -> None:
    engine, other = workers("a"), workers("b")
    engine.put("k", {}, 50)
    seen: list[bool] = []

    def work(_job: Job, report: Report) -> None:
        for _ in range(4):
            clock.advance(6.0)
            report("working", 0.5)
            until(lambda: _lease_ahead(engine, clock))
            seen.append(other.run_one(_nothing))

    assert engine.run_one(work)
    assert seen == [False] * 4


def _lease_ahead(engine: Engine, clock) -> bool:
    from dicom_node.database import is_postgresql, job

    database = engine.database
    with reading(database) as connection:
        if is_postgresql(database):
            beat = "SELECT bool_and(last_heartbeat > now() - interval '1 s') FROM procrastinate_workers"
            return bool(connection.execute(sa.text(beat)).scalar_one())
        return connection.execute(job.select()).one().lease_until >= clock.now + 9.0


def test_a_job_lost_at_every_attempt_is_buried(workers: Workers, clock) -> None:
    engine = workers("a")
    engine.put("k", {}, 50)
    for _ in range(SETTINGS.maximum_attempts):
        assert engine._take() is not None
        clock.advance(11.0)
    assert not engine.run_one(_nothing)
    (dead,) = engine.bury()
    assert dead.key == "k"
    assert "lost" in dead.error


def test_a_cancelled_job_does_not_run(workers: Workers) -> None:
    engine = workers("a")
    engine.put("k", {}, 50)
    assert engine.cancel("k")
    assert not engine.cancel("k")
    assert _keys_run(engine) == []


def test_a_running_job_learns_that_it_was_cancelled(workers: Workers) -> None:
    engine = workers("a")
    engine.put("k", {}, 50)
    raised: list[bool] = []

    def work(_job: Job, report: Report) -> None:
        engine.cancel("k")
        try:
            report("on", 0.1)
        except LeaseLost:
            raised.append(True)
            raise

    assert engine.run_one(work)
    assert raised == [True]
    assert engine.status(["k"])[0].state is JobState.CANCELLED


def test_progress_is_seen_by_others(workers: Workers) -> None:
    engine, other = workers("a"), workers("b")
    engine.put("k", {}, 50)

    def work(_job: Job, report: Report) -> None:
        report("drawing", 0.25)
        (status,) = other.status()
        assert (status.progress, status.progress_text) == (0.25, "drawing")

    engine.run_one(work)
    assert engine.status(["k"])[0].progress == 1.0


def test_two_workers_share_the_jobs_and_run_none_twice(workers: Workers) -> None:
    engines = [workers(n) for n in ("a", "b", "c")]
    for number in range(30):
        engines[0].put(f"k{number}", {}, 50)
    ran: list[str] = []
    lock = threading.Lock()

    def handle(job: Job, _report: Report) -> None:
        with lock:
            ran.append(job.key)

    def work(engine: Engine) -> None:
        while engine.run_one(handle):
            pass

    threads = [threading.Thread(target=work, args=(e,)) for e in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(ran) == sorted(f"k{n}" for n in range(30))


def test_a_job_over_its_time_limit_is_given_up(workers: Workers, clock) -> None:
    over = threading.Event()
    engine = workers("a", overtime=over.set)
    engine.put("k", {}, 50)

    def hang(_job: Job, report: Report) -> None:
        clock.advance(601.0)
        assert over.wait(10)
        report("late", 0.9)

    assert engine.run_one(hang)
    assert engine.status(["k"])[0].state is JobState.RUNNING
    clock.advance(11.0)
    assert engine.run_one(_nothing)
