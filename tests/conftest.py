"""Fixtures that every test may use: real data outside the repository, judges, a driven clock."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

_MISSING_DATA: set[str] = set()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was not tested for want of data outside the repository."""
    if _MISSING_DATA:
        terminalreporter.section("real data that was not found")
        for name in sorted(_MISSING_DATA):
            terminalreporter.line(name)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real data, ``HEPATOCAST_TEST_DATA`` or ``../shared/data``."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    return Path(os.environ.get("HEPATOCAST_TEST_DATA", default))


@pytest.fixture
def needs_data(real_data: Path):
    """Return a function that gives a path under the real data, or skips the test and lists it."""

    def need(name: str) -> Path:
        path = real_data / name
        if not path.exists():
            _MISSING_DATA.add(name)
            pytest.skip(f"real data not found: {name}")
        return path

    return need


@pytest.fixture(scope="session")
def needs_judge():
    """Return a function that gives the path of an independent program.

    Where it is absent the test is skipped and says which; in CI absence is a failure.
    """

    def need(program: str) -> str:
        found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin")
        if found is None:
            message = f"judge not installed: {program} (make judges)"
            if os.environ.get("CI"):
                pytest.fail(message)
            pytest.skip(message)
        return found

    return need


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """Run one PostgreSQL server for all tests; return its address."""
    from tests.builders.postgresql import postgresql, postgresql_programs

    programs = postgresql_programs()
    if programs is None:
        message = "PostgreSQL is not installed (make judges)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with postgresql(programs) as url:
        yield url


@pytest.fixture(scope="session")
def _database(postgresql_server: str) -> Iterator[str]:
    from tests.builders.postgresql import fresh_database

    with fresh_database(postgresql_server) as url:
        yield url


@pytest.fixture
def database_url(_database: str) -> str:
    """Return the address of a PostgreSQL database without rows; its tables may be there."""
    from tests.builders.postgresql import remove_rows

    remove_rows(_database)
    return _database


class DrivenClock:
    """A clock that a test moves."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Iterator[DrivenClock]:
    return DrivenClock()
