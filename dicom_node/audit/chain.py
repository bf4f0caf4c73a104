"""The file of the audit trail: records in a chain of digests, so that tampering shows.

    data_dir/audit/audit-<number of its first record>.jsonl

Each line holds a number, the digest of the record before it, the message, and the digest over all that.
Who changes, inserts or removes a record breaks the chain from there on. Who cuts off the end, or writes
the whole chain anew, is found out by the head that the database keeps and, better, by what a syslog
server on another machine was sent: each message goes there with its number and digest. Files are only
ever appended to; where the file system can, `chattr +a` makes that a rule.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BEGINNING = "0" * 64
"""In place of a digest before the first record."""
TAIL_BYTES = 16 * 1024**2
LONGEST_LINE = 1024**2


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be written: the row that a message tells of, and the message."""

    source: str
    row: int
    message: str


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the file."""

    number: int
    source: str
    row: int
    message: str
    previous: str
    digest: str


@dataclass(frozen=True, slots=True)
class Head:
    """The last record: its number and digest."""

    number: int = 0
    digest: str = BEGINNING


def record_digest(number: int, source: str, row: int, message: str, previous: str) -> str:
    """Return the digest of a record."""
    content = json.dumps([number, source, row, message, previous], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def chained(entry: Entry, head: Head) -> Record:
    """Return the record that follows a head."""
    number = head.number + 1
    digest = record_digest(number, entry.source, entry.row, entry.message, head.digest)
    return Record(number, entry.source, entry.row, entry.message, head.digest, digest)


def _line(record: Record) -> str:
    content = {
        "n": record.number,
        "source": record.source,
        "row": record.row,
        "previous": record.previous,
        "message": record.message,
        "digest": record.digest,
    }
    return json.dumps(content, ensure_ascii=False) + "\n"


def _parsed(line: str) -> Record:
    """Return a line as a record; raise ValueError where it is none."""
    content: Any = json.loads(line)
    try:
        return Record(
            int(content["n"]),
            str(content["source"]),
            int(content["row"]),
            str(content["message"]),
            str(content["previous"]),
            str(content["digest"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError("the line is no record") from error


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check of the chain found: problems in words, none where the chain holds."""

    records: int
    head: Head
    problems: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class AuditFiles:
    """All files of one audit trail."""

    folder: Path
    maximum_bytes: int = 64 * 1024**2

    def files(self) -> list[Path]:
        """Return the files in the order of their records."""
        return sorted(self.folder.glob("audit-*.jsonl")) if self.folder.is_dir() else []

    def append(self, entries: Sequence[Entry], head: Head) -> list[Record]:
        """Write entries after a head, durably; returns their records."""
        records = []
        for entry in entries:
            records.append(chained(entry, head))
            head = Head(records[-1].number, records[-1].digest)
        if records:
            self._write("".join(_line(r) for r in records), records[0].number)
        return records

    def _write(self, text: str, first: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        files = self.files()
        path = files[-1] if files else None
        if path is None or path.stat().st_size >= self.maximum_bytes or _last_number(path) != first - 1:
            path = self.folder / f"audit-{first:012d}.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            data = memoryview(text.encode())
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def tail(self) -> list[Record]:
        """Return the last records that can be read, oldest first; none where there is no file."""
        for path in reversed(self.files()):
            with path.open("rb") as stream:
                stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
                lines = stream.read().decode("utf-8", "replace").split("\n")
            found = []
            for line in lines:
                try:
                    found.append(_parsed(line))
                except ValueError:
                    continue  # the first may be cut by the seek, the last by a power cut
            if found:
                return found
        return []

    def after(self, number: int, limit: int) -> list[Record]:
        """Return the records after a number, at most `limit`."""
        files = self.files()
        begins = [_first_number(f) for f in files]
        start = max((i for i, first in enumerate(begins) if first <= number + 1), default=0)
        found: list[Record] = []
        for path in files[start:]:
            for record in _records(path):
                if isinstance(record, Record) and record.number > number:
                    found.append(record)
                    if len(found) >= limit:
                        return found
        return found

    def records(self) -> Iterator[Record]:
        """Yield all records that can be read."""
        for path in self.files():
            for record in _records(path):
                if isinstance(record, Record):
                    yield record

    def verify(self, expected: Head | None = None) -> Verification:
        """Check the whole chain.

        Parameters
        ----------
        expected : Head, optional
            A head noted elsewhere: the chain has to reach it, and have its digest there.
        """
        checker = _Checker(expected)
        for path in self.files():
            for number, found in enumerate(_records(path), start=1):
                checker.see(path.name, number, found)
        return checker.result()


class _Checker:
    """Goes along the chain."""

    def __init__(self, expected: Head | None) -> None:
        self._expected = expected
        self._head = Head()
        self._count = 0
        self._reached = False
        self._problems: list[str] = []
        self._notes: list[str] = []

    def see(self, file: str, line: int, found: Record | str) -> None:
        """Take the next line."""
        where = f"{file}, line {line}"
        if isinstance(found, str):
            where_to = self._notes if found == TORN else self._problems
            where_to.append(f"{where}: {found}")
            return
        self._count += 1
        if found.number != self._head.number + 1:
            self._problems.append(
                f"{where}: record {found.number} follows record {self._head.number}; records are missing"
            )
        elif found.previous != self._head.digest:
            self._problems.append(f"{where}: record {found.number} does not follow the one before it")
        content = (found.number, found.source, found.row, found.message, found.previous)
        if record_digest(*content) != found.digest:
            self._problems.append(f"{where}: record {found.number} was changed")
        if self._expected is not None and found.number == self._expected.number:
            if found.digest != self._expected.digest:
                self._problems.append(f"{where}: record {found.number} is not the one that was noted")
            self._reached = True
        self._head = Head(found.number, found.digest)

    def result(self) -> Verification:
        """Return what was found."""
        expected = self._expected
        if expected is not None and expected.number and not self._reached:
            self._problems.append(
                f"the chain ends at record {self._head.number}, and record {expected.number} was written"
            )
        return Verification(self._count, self._head, tuple(self._problems), tuple(self._notes))


TORN = "the last line is not whole, as after a power cut; what it held was written again"


def _records(path: Path) -> Iterator[Record | str]:
    """Yield each line as a record, or what is wrong with it."""
    with path.open(encoding="utf-8", errors="replace", newline="\n") as stream:
        for line in stream:
            if not line.endswith("\n"):
                yield TORN
                return
            try:
                yield _parsed(line)
            except ValueError:
                yield "the line is no record"


def _last_number(path: Path) -> int | None:
    """Return the number of a file's last record; None where the file does not end with a whole one.

    Where it is not the head's, other records were written in between, by a writer on another machine; in
    a new file they can be put beside each other.
    """
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - LONGEST_LINE))
        end = stream.read()
    if not end.endswith(b"\n"):
        return None
    try:
        return _parsed(end.rstrip(b"\n").rpartition(b"\n")[2].decode("utf-8", "replace")).number
    except ValueError:
        return None


def _first_number(path: Path) -> int:
    try:
        return int(path.stem.partition("-")[2])
    except ValueError:
        return 0
