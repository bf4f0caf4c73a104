"""Settings of the forecast, frozen and validated; `dicom_node.settings` reads them from YAML."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


class Frozen(BaseModel):
    """A settings table: unknown keys are refused, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _ascending(months: tuple[float, ...]) -> tuple[float, ...]:
    if list(months) != sorted(set(months)) or any(not 0 < m <= 24 for m in months):
        raise ValueError("months must ascend, each above 0 and at most 24")
    return months


Months = Annotated[tuple[float, ...], AfterValidator(_ascending)]
"""Months after the start of treatment, ascending."""


class TaceSession(Frozen):
    """One chemoembolisation."""

    day: float = Field(ge=0, description="days after the start of treatment")
    dose: float = Field(1.0, gt=0, le=2, description="relative dose of the embolic emulsion")
    lipiodol: bool = Field(True, description="conventional TACE with lipiodol")


class Regimen(Frozen):
    """One treatment regimen: what people call it, and what the mechanistic model does with it."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]{1,40}$")
    name: str = Field(max_length=48, description="short name, shown to people")
    tace: tuple[TaceSession, ...] = ()
    haic_days: tuple[float, ...] = Field((), description="days of the infusion cycles")
    tki: float = Field(0.0, ge=0, le=2, description="relative exposure to a tyrosine kinase inhibitor")
    anti_vegf: float = Field(0.0, ge=0, le=2, description="relative exposure to an anti-VEGF antibody")
    immunotherapy: float = Field(0.0, ge=0, le=2, description="relative exposure to a checkpoint inhibitor")
    source: str = Field(description="publication the kill terms are calibrated to")


class SegmentationLimits(Frozen):
    """Plausibility of a liver segmentation.

    Outside the refuse limits it is refused. Outside the review limits a program's outlines are held until
    a person has looked at them; a person's own outlines only get a warning.
    """

    refuse_below_ml: float = 50.0
    refuse_above_ml: float = 5000.0
    review_below_ml: float = 300.0
    review_above_ml: float = 3500.0
    refuse_largest_component_below: float = Field(0.5, ge=0, le=1)
    review_largest_component_below: float = Field(0.95, ge=0, le=1)
    review_entropy_above: float = Field(0.45, ge=0, description="mean entropy of the segmenter's outlines")


class Doubtful(StrEnum):
    """What is done with outlines of a program that lie outside the review limits."""

    HOLD = "hold"
    ACCEPT = "accept"


class PipelineSettings(Frozen):
    """What `inference.pipeline.run` is told."""

    regimens: tuple[Regimen, ...]
    months: Months = Field((1.0, 3.0, 6.0), description="scheduled virtual follow-ups")
    best_response: bool = Field(True, description="also draw the time of best response")
    segmentation: SegmentationLimits = SegmentationLimits()
    doubtful: Doubtful = Field(Doubtful.HOLD, description="accept where a person released the outlines")
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> PipelineSettings:
        ids = [r.id for r in self.regimens]
        if len(set(ids)) != len(ids):
            raise ValueError("two regimens have the same id")
        return self
