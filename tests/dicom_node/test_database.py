"""The database on SQLite and PostgreSQL: one writer at a time, rows in the order of their numbers."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from dicom_node.clock import system_clock
from dicom_node.database import (
    activation,
    adding,
    audit,
    has_database,
    instance,
    job,
    metadata,
    node_database,
    open_database,
    reading,
    study,
    writing,
)
from dicom_node.database_columns import add_missing_columns
from dicom_node.database_connections import LOCK_WAIT_S, POSTGRESQL_OPTIONS
from dicom_node.errors import ConfigurationError
from dicom_node.jobs.ledger import Ledger
from dicom_node.settings import NodeSettings, load_settings
from tests.builders.postgresql import fresh_database

TEN_GIB = 10 * 1024**3


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path):
    url = request.getfixturevalue("database_url") if request.param == "postgresql" else ""
    engine = open_database(tmp_path, url)
    yield engine
    engine.dispose()


def _instance(uid: str, size: int = 1) -> dict[str, object]:
    return {
        "sop_instance_uid": uid,
        "sha256": "0" * 64,
        "sop_class_uid": "1.2",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "study_instance_uid": "1.2.3",
        "series_instance_uid": "1.2.3.1",
        "modality": "C\0T",
        "path": "spool/x",
        "size_bytes": size,
        "calling_ae_title": "PACS",
        "received_at": 1.0,
    }


def test_sizes_beyond_two_gib_and_texts_with_nul_are_kept(database: sa.Engine) -> None:
    with writing(database) as connection:
        connection.execute(sa.insert(instance).values(**_instance("1.1", TEN_GIB)))
    with reading(database) as connection:
        row = connection.execute(sa.select(instance)).one()
    assert row.size_bytes == TEN_GIB
    assert row.modality.replace("\0", "") == "CT"


def test_the_ledger_opens_revisions_and_records_them(database: sa.Engine) -> None:
    ledger = Ledger(database, system_clock)
    with writing(database) as connection:
        first = ledger.open_revision(connection, "1.2.3")
        second = ledger.open_revision(connection, "1.2.3")
    assert [r.number for r in ledger.revisions()] == [1, 2]
    assert [ledger.history(i)[0]["event"] for i in (first, second)] == ["opened", "opened"]


def test_a_failed_transaction_leaves_nothing(database: sa.Engine) -> None:
    def fail() -> None:
        with writing(database) as connection:
            connection.execute(sa.insert(instance).values(**_instance("1.1")))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with reading(database) as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(instance)).scalar() == 0


def test_writers_take_turns_and_see_what_the_one_before_wrote(database: sa.Engine) -> None:
    with writing(database) as connection:
        values = {"study_instance_uid": "1.2", "first_instance_at": 0.0, "last_instance_at": 0.0}
        connection.execute(sa.insert(study).values(last_instance_id=0, calling_ae_title="", **values))

    def count() -> None:
        for _ in range(10):
            with writing(database) as connection:
                seen = connection.execute(sa.select(study.c.last_instance_id)).scalar_one()
                connection.execute(sa.update(study).values(last_instance_id=seen + 1))

    _together([count] * 3)
    with reading(database) as connection:
        assert connection.execute(sa.select(study.c.last_instance_id)).scalar_one() == 30


def test_a_writer_never_sees_a_number_above_one_still_to_come(database: sa.Engine) -> None:
    """The assembler goes on from the highest number that it saw: a gap filled later would be lost."""
    over = threading.Event()
    seen: set[int] = set()
    late: list[int] = []

    def add(which: int) -> None:
        for number in range(25):
            uid = f"1.{which}.{number}"
            with adding(database, uid) as connection:
                connection.execute(sa.insert(instance).values(**_instance(uid)))

    def watch() -> None:
        while not over.is_set():
            with writing(database) as connection:
                now = set(connection.execute(sa.select(instance.c.id)).scalars())
            late.extend(i for i in now - seen if seen and i < max(seen))
            seen.update(now)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        _together([lambda w=w: add(w) for w in range(1, 5)])
    finally:
        over.set()
        watcher.join(30)
    with reading(database) as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(instance)).scalar() == 100
    assert not late


def test_reading_is_one_snapshot(database: sa.Engine) -> None:
    with reading(database) as connection:
        before = connection.execute(sa.select(sa.func.count()).select_from(audit)).scalar()
        with writing(database) as other:
            Ledger(database, system_clock).open_revision(other, "1.2.3")
        after = connection.execute(sa.select(sa.func.count()).select_from(audit)).scalar()
    assert (before, after) == (0, 0)


def test_processes_that_start_at_once_make_the_tables_once(tmp_path: Path, postgresql_server: str) -> None:
    with fresh_database(postgresql_server) as url:
        _start_four(tmp_path, url)


def _start_four(tmp_path: Path, url: str) -> None:
    program = (
        "import sys; from pathlib import Path; from dicom_node.database import open_database; "
        "open_database(Path(sys.argv[1]), sys.argv[2]).dispose()"
    )
    command = [sys.executable, "-c", program, str(tmp_path), url]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    errors = [p.communicate(timeout=120)[1] for p in started]
    assert [p.returncode for p in started] == [0] * 4, errors
    engine = open_database(tmp_path, url)
    with reading(engine) as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(activation)).scalar() == 0
    engine.dispose()


def test_a_writer_that_stops_inside_a_transaction_holds_nobody_up_for_long(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeout = "idle_in_transaction_session_timeout"
    assert POSTGRESQL_OPTIONS[timeout] == f"{LOCK_WAIT_S}s"
    monkeypatch.setitem(POSTGRESQL_OPTIONS, timeout, "500ms")
    stopped, other = open_database(tmp_path, database_url), open_database(tmp_path, database_url)
    ledger = Ledger(other, system_clock)

    def outlive() -> None:
        with writing(stopped) as connection:
            with writing(other) as second:  # waits until the server has ended the first one
                ledger.open_revision(second, "1.2.3")
            connection.execute(sa.select(audit))

    with pytest.raises(DBAPIError):
        outlive()
    assert [r.number for r in ledger.revisions()] == [1]
    stopped.dispose()
    other.dispose()


# ------------------------------------------------------------------ settings


def _settings(tmp_path: Path, **database: object) -> NodeSettings:
    from yaml import safe_dump

    file = tmp_path / "site.yaml"
    content = {"data_dir": str(tmp_path / "data"), "storage": {"database": database}}
    file.write_text(safe_dump(content), encoding="utf-8")
    return load_settings([file])


def test_without_an_address_the_database_is_a_file(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    assert not has_database(settings)
    node_database(settings).dispose()
    assert (tmp_path / "data" / "node.sqlite").is_file()
    assert has_database(settings)


def test_the_address_comes_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("postgresql://a:b@host/name\n")
    assert _settings(tmp_path, url_file=str(secret)).storage.database.url() == "postgresql://a:b@host/name"
    monkeypatch.setenv("HC_DATABASE", "postgresql://c@host/name")
    assert _settings(tmp_path, url_environment="HC_DATABASE").storage.database.url().endswith("c@host/name")


def test_an_absent_address_is_said_without_guessing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HC_DATABASE", raising=False)
    with pytest.raises(ConfigurationError, match="HC_DATABASE holds no address"):
        node_database(_settings(tmp_path, url_environment="HC_DATABASE"))
    with pytest.raises(ConfigurationError, match="cannot read file"):
        node_database(_settings(tmp_path, url_file=str(tmp_path / "absent")))
    with pytest.raises(ConfigurationError, match="not both"):
        _settings(tmp_path, url_file="x", url_environment="Y")


@pytest.mark.parametrize("url", ["mysql://a:hush@h/n", "postgresql://a:hush@127.0.0.1:1/n", "hush"])
def test_errors_of_the_address_tell_no_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_database(tmp_path, url)
    assert "hush" not in str(caught.value)


def _together(tasks: list) -> None:
    errors: list[BaseException] = []

    def run(task) -> None:
        try:
            task()
        except Exception as error:  # noqa: BLE001 - reported by the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(t,)) for t in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors


def test_a_database_of_an_older_version_gets_what_it_lacks_and_keeps_its_rows(database: sa.Engine) -> None:
    with writing(database) as connection:
        connection.exec_driver_sql("ALTER TABLE job DROP COLUMN queue")
        connection.exec_driver_sql(
            "INSERT INTO job (key, payload, priority, state, run_at, attempts, error, progress, "
            "progress_text) VALUES ('k', '{}', 50, 'ready', 0, 0, '', 0, '')"
        )
        assert add_missing_columns(connection, metadata) == ["job.queue"]
        assert connection.execute(sa.select(job.c.key, job.c.queue)).all() == [("k", "default")]
        assert add_missing_columns(connection, metadata) == []


def test_a_column_that_no_row_can_do_without_is_said(database: sa.Engine) -> None:
    with writing(database) as connection:
        newer = sa.MetaData()
        sa.Table("job", newer, sa.Column("id", sa.Integer), sa.Column("must", sa.Text, nullable=False))
        with pytest.raises(ConfigurationError, match="job has no must"):
            add_missing_columns(connection, newer)
