"""Settings of a node on several machines: where its rows and its files are."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from pydantic import Field, model_validator

from dicom_node.errors import ConfigurationError
from inference.settings import Frozen


class DatabaseSettings(Frozen):
    """Where the address of a PostgreSQL database is told; neither means SQLite in the data folder.

    The address holds a password, and so is no setting itself.
    """

    url_environment: str | None = Field(None, description="name of an environment variable")
    url_file: Path | None = Field(None, description="a file with one line, for the node's user only")

    @model_validator(mode="after")
    def _check_one(self) -> DatabaseSettings:
        if self.url_environment is not None and self.url_file is not None:
            raise ValueError("give url_environment or url_file, not both")
        return self

    @property
    def is_remote(self) -> bool:
        """Whether the node's database is PostgreSQL."""
        return self.url_environment is not None or self.url_file is not None

    def url(self) -> str:
        """Return the address; empty for SQLite.

        Raises
        ------
        ConfigurationError
            The variable or file is absent or empty.
        """
        if self.url_environment is not None:
            found = os.environ.get(self.url_environment, "").strip()
            source = f"environment variable {self.url_environment}"
        elif self.url_file is not None:
            source = f"file {self.url_file}"
            try:
                found = self.url_file.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise ConfigurationError(f"storage.database: cannot read {source}") from error
        else:
            return ""
        if not found:
            raise ConfigurationError(f"storage.database: {source} holds no address")
        return found


class StorageSettings(Frozen):
    """Where rows and files are, when one machine is not enough."""

    node_name: str = Field(
        "", pattern=r"^[A-Za-z0-9_.-]{0,63}$", description="of this machine, unlike all others; empty: host"
    )
    database: DatabaseSettings = DatabaseSettings()
    objects: str = Field(
        "",
        pattern=r"^[^*?\[\]]*$",
        description="folder that every machine mounts, or s3://bucket/prefix; empty: the data folder",
    )
    s3_endpoint_url: str | None = Field(None, description="of an S3 service that is not Amazon's")

    @property
    def machine(self) -> str:
        """Name of this machine, in leases, logs and names of temporary files."""
        return self.node_name or socket.gethostname()
