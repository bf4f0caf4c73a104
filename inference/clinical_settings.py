"""Settings of the sources of clinical values, in the order in which they are asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from inference.settings import Frozen

ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


class SourceSettings(Frozen):
    """What all sources have in common; `name` is kept with every value and shown in the log."""

    name: str = Field(pattern=r"^[A-Za-z0-9 _.-]{1,48}$")


class FileSettings(SourceSettings):
    """A JSON or CSV file, see `inference.clinical.files`."""

    kind: Literal["file"]
    path: Path


class LaboratoryFileSettings(SourceSettings):
    """A CSV file of laboratory values over time, see `inference.clinical.sources.laboratory`."""

    kind: Literal["laboratory_file"]
    path: Path
    maximum_age_days: int = Field(30, ge=0, description="older values say nothing of the day of the study")


class ColumnSettings(Frozen):
    """Where a table has a variable, and in which unit."""

    column: str
    unit: str | None = None


class SqlSettings(SourceSettings):
    """A table or view of a database, one row for each study or patient; it is only read.

    Key columns hold text; where Patient IDs are numbers, make a view that gives them as text.

    Attributes
    ----------
    url_environment : str
        Name of the environment variable with the address, so that no password stands in a file:
        ``postgresql+psycopg://reader:secret@laboratory/hospital`` or ``sqlite:///clinical.db``.
    issuer : str
        Issuer of the Patient IDs of a table that has no column for it; empty where the images have none.
    """

    kind: Literal["sql"]
    url_environment: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$")
    table: str
    table_schema: str | None = None
    study_column: str | None = None
    patient_column: str | None = None
    issuer_column: str | None = None
    issuer: str = ""
    variables: Mapping[str, ColumnSettings] = Field(min_length=1)
    timeout_s: int = Field(10, ge=1, le=600)

    @field_validator("table", "table_schema", "study_column", "patient_column", "issuer_column")
    @classmethod
    def _identifier(cls, value: str | None) -> str | None:
        if value is not None and not _IDENTIFIER.fullmatch(value):
            raise ValueError("a name of letters, digits and underscores")
        return value

    @model_validator(mode="after")
    def _has_a_key(self) -> SqlSettings:
        if self.study_column is None and self.patient_column is None:
            raise ValueError("give study_column or patient_column")
        for column in (c.column for c in self.variables.values()):
            if not _IDENTIFIER.fullmatch(column):
                raise ValueError(f"column {column!r} is no name of letters, digits and underscores")
        return self


class DicomAttributesSettings(SourceSettings):
    """Patient's Age, Sex, Weight and Size of the study's own objects."""

    kind: Literal["dicom_attributes"]
    name: str = Field("DICOM attributes", pattern=r"^[A-Za-z0-9 _.-]{1,48}$")


class StructuredReportsSettings(SourceSettings):
    """Coded numbers (LOINC and UCUM) of the structured reports in the study."""

    kind: Literal["structured_reports"]
    name: str = Field("structured reports", pattern=r"^[A-Za-z0-9 _.-]{1,48}$")


class ReportTextsSettings(SourceSettings):
    """Text of structured reports and encapsulated PDFs in the study, as a vector; no word is kept.

    Attributes
    ----------
    encoder : str
        ``hashed n-grams``, which needs no weights, or a name that a package of the site registers under the
        entry points ``hepatocast.text_encoders``.
    """

    kind: Literal["report_texts"]
    name: str = Field("report texts", pattern=r"^[A-Za-z0-9 _.-]{1,48}$")
    encoder: str = "hashed n-grams"


AnySource = Annotated[
    FileSettings
    | LaboratoryFileSettings
    | SqlSettings
    | DicomAttributesSettings
    | StructuredReportsSettings
    | ReportTextsSettings,
    Field(discriminator="kind"),
]


class ClinicalSettings(Frozen):
    """Sources of clinical values; of each variable the first source that has it counts."""

    sources: tuple[AnySource, ...] = (
        DicomAttributesSettings(kind="dicom_attributes"),
        StructuredReportsSettings(kind="structured_reports"),
    )

    @model_validator(mode="after")
    def _names_differ(self) -> ClinicalSettings:
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError("two sources have the same name")
        return self

    @property
    def sop_classes(self) -> tuple[str, ...]:
        """SOP classes that the sources read and that a node would not accept else."""
        reads_texts = any(source.kind == "report_texts" for source in self.sources)
        return (ENCAPSULATED_PDF,) if reads_texts else ()

    def after_file(self, path: Path | None) -> ClinicalSettings:
        """Return these settings with a clinical file asked before all other sources."""
        if path is None:
            return self
        first = FileSettings(kind="file", name="clinical file", path=path)
        others = tuple(source for source in self.sources if source.name != first.name)
        return self.model_copy(update={"sources": (first, *others)})
