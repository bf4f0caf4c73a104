"""What a folder of predictions says about each model: ``models.json``."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from inference.errors import PredictionsError
from inference.evaluation.predictions.patients import RESPONSE
from inference.settings import Frozen

MODELS = "models.json"


class Arm(StrEnum):
    """What a model looks at, as the study protocol compares it."""

    CLINICAL = "clinical"
    BASELINE_IMAGES = "baseline_images"
    REAL_FOLLOW_UP = "real_follow_up"
    VIRTUAL = "virtual"
    OTHER = "other"


class Role(StrEnum):
    """What a model is there for."""

    CANDIDATE = "candidate"
    REFERENCE = "reference"


class EndPoint(StrEnum):
    """What is predicted."""

    OS = "os"
    PFS = "pfs"
    RESPONSE = "response"


class ModelEntry(Frozen):
    """One model of ``models.json``."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", description="part of its file names")
    title: str = Field(min_length=1, max_length=80, description="what people read")
    arm: Arm
    end_points: tuple[EndPoint, ...] = Field(min_length=1)
    role: Role = Field(Role.CANDIDATE, description="one may be the reference that others are compared with")
    landmark_months: float = Field(
        0.0, ge=0, description="month at which the last input was made; 0 where all are of the baseline"
    )
    risk_cut: float | None = Field(
        None,
        description="risk from which the model itself calls a patient at high risk; without it groups are of "
        "equal size among validation patients",
    )
    parameters: int | None = Field(
        None, ge=1, description="coefficients that were candidates in its development, for the sample size"
    )
    kind: str = Field("", max_length=200, description="type of model in words")
    predictors: tuple[str, ...] = Field((), description="what it is given")
    trained_on: str = Field("", max_length=200, description="cohort, patients and events")
    sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$", description="of its weights")

    @model_validator(mode="after")
    def _check(self) -> ModelEntry:
        if len(set(self.end_points)) < len(self.end_points):
            raise ValueError("an end point is there twice")
        if self.landmark_months and RESPONSE in self.end_points:
            raise ValueError("response is predicted from the baseline: a model with a landmark has none")
        if self.risk_cut is not None and len(set(self.end_points) - {EndPoint.RESPONSE}) != 1:
            raise ValueError("a cut of risk belongs to a model of one survival end point")
        return self


_ENTRIES = TypeAdapter(Annotated[tuple[ModelEntry, ...], Field(min_length=1)])


def read_models(folder: Path) -> tuple[ModelEntry, ...]:
    """Read ``models.json``.

    Raises
    ------
    PredictionsError
        It is missing or damaged, a field is unknown or wrong, two models share a name, or there are two
        references.
    """
    try:
        entries = _ENTRIES.validate_json((folder / MODELS).read_bytes())
    except FileNotFoundError as error:
        raise PredictionsError(f"{MODELS} is missing") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PredictionsError(f"{MODELS}, {where or 'file'}: {first['msg']}") from error
    check_entries(entries)
    return entries


def check_entries(entries: tuple[ModelEntry, ...]) -> None:
    """Refuse two models of one name and two references."""
    # File systems that ignore case would let one model's file stand for another's.
    if len({e.name.lower() for e in entries}) < len(entries):
        raise PredictionsError(f"{MODELS}: two models have the same name")
    if sum(e.role is Role.REFERENCE for e in entries) > 1:
        raise PredictionsError(f"{MODELS}: only one model can be the reference")


def write_models(folder: Path, entries: tuple[ModelEntry, ...]) -> None:
    """Write ``models.json``."""
    plain = [e.model_dump(mode="json", exclude_defaults=True) for e in entries]
    (folder / MODELS).write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
