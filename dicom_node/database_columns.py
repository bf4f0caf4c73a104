"""Columns that a newer version of the node has and a database of an older one lacks."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.schema import CreateColumn

from dicom_node.errors import ConfigurationError


def add_missing_columns(connection: sa.Connection, metadata: sa.MetaData) -> list[str]:
    """Add what the tables of a database lack; return it as ``table.column``.

    Rows keep what they have; a new column is empty in them, or has its server's default. Nothing is removed
    or changed, so that processes of the older version go on working beside those of the newer one.

    Raises
    ------
    ConfigurationError
        A column can be added to no row: it has neither a default nor may it be empty.
    """
    added = []
    inspector = sa.inspect(connection)
    for table in metadata.sorted_tables:
        known = {str(column["name"]) for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                if not column.nullable and column.server_default is None:
                    raise ConfigurationError(f"the database is too old: {table.name} has no {column.name}")
                definition = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {definition}")
                added.append(f"{table.name}.{column.name}")
    return added
