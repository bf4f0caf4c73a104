"""A table of a database as a source: one row for each study or patient, read and never written.

The database is asked for one study or one patient at a time, by a parametrised query. What a driver says of
an error may hold the patient's ID, so that only the kind of error is passed on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from inference.case import ClinicalRecord
from inference.clinical.checking import checked_value, known_variable
from inference.clinical.files import KNOWN
from inference.clinical.sources.study import StudyKeys
from inference.clinical_settings import SqlSettings
from inference.errors import ClinicalError, ClinicalSourceAway

_READ_ONLY: Mapping[str, str] = {
    "sqlite": "PRAGMA query_only = ON",
    "postgresql": "SET TRANSACTION READ ONLY",
    "mysql": "SET TRANSACTION READ ONLY",
    "mariadb": "SET TRANSACTION READ ONLY",
    "oracle": "SET TRANSACTION READ ONLY",
}
"""What makes a transaction read-only, by dialect; elsewhere the rights of the database's user do."""

_TIMEOUT: Mapping[str, str] = {
    "postgresql": "connect_timeout",
    "sqlite": "timeout",
    "mysql": "connect_timeout",
}
"""Argument of the driver for the time to wait for an answer."""


class SqlRecords:
    """A table by study or patient.

    Raises
    ------
    ClinicalError
        A variable of the settings is not known.
    ClinicalSourceAway
        The environment variable is not set, or its address or driver cannot be used.
    """

    def __init__(self, settings: SqlSettings) -> None:
        self._settings = settings
        self._where = f"Source '{settings.name}'"
        self._variables = {name: known_variable(name, self._where, KNOWN) for name in settings.variables}
        self._table = _table(settings)
        self._engine = self._open()

    @property
    def name(self) -> str:
        """Name in the configuration."""
        return self._settings.name

    def record_for(self, keys: StudyKeys) -> ClinicalRecord:
        """Return the row of the study, else of its patient, else an empty record; NULL is missing.

        Raises
        ------
        ClinicalError
            A value is refused, or two rows have the same key.
        ClinicalSourceAway
            The database does not answer, or the table or a column does not exist.
        """
        with self._connected() as connection:
            for condition in self._conditions(keys):
                rows = self._rows(connection, condition)
                if len(rows) > 1:
                    raise ClinicalError(
                        f"{self._where}: two rows have the key of the study; keep one of them."
                    )
                if rows:
                    return self._record(rows[0])
        return ClinicalRecord()

    def probe(self) -> None:
        """Ask for no row, to see that database, table and columns are there.

        Raises
        ------
        ClinicalSourceAway
            They are not.
        """
        with self._connected() as connection:
            connection.execute(sa.select(*self._table.c).where(sa.false()))

    # -------------------------------------------------------------- the query

    def _conditions(self, keys: StudyKeys) -> Iterator[sa.ColumnElement[bool]]:
        """Yield the condition for the study, then for the patient; an empty key never matches."""
        settings, columns = self._settings, self._table.c
        if settings.study_column and keys.study_instance_uid:
            yield columns[settings.study_column] == sa.bindparam("study", keys.study_instance_uid)
        if not settings.patient_column or not keys.patient_id:
            return
        patient = columns[settings.patient_column] == sa.bindparam("patient", keys.patient_id)
        if settings.study_column:
            study = columns[settings.study_column]
            patient = sa.and_(patient, sa.or_(study.is_(None), study == ""))
        if not settings.issuer_column:
            if settings.issuer == keys.issuer:
                yield patient
            return
        issuer = columns[settings.issuer_column]
        if keys.issuer:
            yield sa.and_(patient, issuer == sa.bindparam("issuer", keys.issuer))
        else:
            yield sa.and_(patient, sa.or_(issuer.is_(None), issuer == ""))

    def _rows(self, connection: sa.Connection, condition: sa.ColumnElement[bool]) -> Sequence[sa.RowMapping]:
        columns = self._table.c
        wanted = {name: columns[c.column] for name, c in self._settings.variables.items()}
        query = sa.select(*(column.label(name) for name, column in wanted.items())).where(condition).limit(2)
        return connection.execute(query).mappings().all()

    def _record(self, row: sa.RowMapping) -> ClinicalRecord:
        values = {}
        for name, where in self._settings.variables.items():
            given = _plain(row[name])
            if given is not None:
                variable = self._variables[name]
                values[name] = checked_value(variable, given, where.unit, self._where, self.name)
        return ClinicalRecord(values)

    # -------------------------------------------------------------- the connection

    def _open(self) -> sa.Engine:
        variable = self._settings.url_environment
        address = os.environ.get(variable)
        if not address:
            raise ClinicalSourceAway(f"{self._where}: the environment variable {variable} is not set.")
        try:
            url = sa.make_url(address)
            argument = _TIMEOUT.get(url.get_backend_name())
            connect = {argument: self._settings.timeout_s} if argument else {}
            if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
                raise ClinicalSourceAway(f"{self._where}: there is no such SQLite file.")
            return sa.create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=connect)
        except (sa.exc.ArgumentError, ImportError) as error:
            kind = type(error).__name__
            raise ClinicalSourceAway(
                f"{self._where}: the address in {variable} is wrong, or its driver is not installed ({kind})."
            ) from None

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                read_only = _READ_ONLY.get(self._engine.dialect.name)
                if read_only is not None:
                    connection.execute(sa.text(read_only))
                yield connection
                connection.rollback()
        except sa.exc.SQLAlchemyError as error:
            # The driver's own words may hold the patient's ID or the password, so they are not chained.
            kind = type(getattr(error, "orig", None) or error).__name__
            raise ClinicalSourceAway(
                f"{self._where}: the database does not answer, or has no such table or columns ({kind})."
            ) from None


def _table(settings: SqlSettings) -> sa.TableClause:
    keys = (settings.study_column, settings.patient_column, settings.issuer_column)
    names = [name for name in keys if name] + [c.column for c in settings.variables.values()]
    columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in dict.fromkeys(names)]
    return sa.table(settings.table, *columns, schema=settings.table_schema)


def _plain(value: object) -> object:
    """Return a cell as `checked_value` takes it; empty text is missing."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, str):
        return value.strip() or None
    return value
