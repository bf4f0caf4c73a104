"""Settings of batches, with defaults that a hospital's archive does not notice."""

from __future__ import annotations

from datetime import time
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from inference.settings import Frozen


class NightlyWindow(Frozen):
    """The hours in which studies may be retrieved; an end before the start is on the next day.

    Attributes
    ----------
    start, end : datetime.time
        Local times of `BatchSettings.time_zone`; not the same.
    """

    start: time
    end: time

    @field_validator("start", "end", mode="before")
    @classmethod
    def _quoted(cls, value: object) -> object:
        if isinstance(value, (int, float)):  # YAML reads 20:00 without quotes as 1200
            raise ValueError('write the time in quotes, such as "20:00"')
        return value

    @model_validator(mode="after")
    def _check(self) -> NightlyWindow:
        if self.start == self.end:
            raise ValueError("start and end are the same; leave window empty to retrieve at any hour")
        return self


class BatchSettings(Frozen):
    """How a batch of archived studies is worked through."""

    studies_per_hour: float | None = Field(60.0, gt=0, description="null: as fast as the archive gives them")
    maximum_bytes_per_s: int | None = Field(20 * 1024**2, gt=0, description="null: no limit")
    studies_in_flight: int = Field(4, ge=1, description="retrieved and not yet delivered, at any time")
    retrievals: int = Field(1, ge=1, le=16, description="studies that are retrieved at the same time")
    window: NightlyWindow | None = None
    time_zone: str = "UTC"
    priority: int = Field(-10, ge=-100, le=-1, description="of the jobs; routing rules give 0 to 100")
    minimum_free_bytes: int = Field(20 * 1024**3, ge=0, description="below it no study is retrieved")
    maximum_attempts: int = Field(5, ge=1)
    backoff_s: tuple[float, ...] = Field((10.0, 60.0, 300.0, 1800.0), min_length=1)
    lease_s: float = Field(15.0, gt=0, description="a run that is silent for so long has ended")

    @field_validator("time_zone")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{value!r} is no time zone; write one such as Europe/Berlin") from error
        return value
