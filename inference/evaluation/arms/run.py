"""The comparison of the arms on a cohort, from its crops to figures with intervals."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.bundle_store import BundleKind
from inference.errors import TrainingDataError
from inference.evaluation.arms.figures import EndPointFigures, figures_of
from inference.evaluation.arms.held_out import check_external, check_never_seen, evaluated
from inference.evaluation.arms.images import Describer
from inference.evaluation.arms.plan import ArmsPlan, Origin
from inference.evaluation.arms.tables import ArmTable, from_landmark, from_treatment
from inference.evaluation.arms.validation import Compared, compared, folds_of
from inference.models.catalogue import load_model
from inference.models.image_features.vectors import ImageVectors
from inference.models.protocols import Progress, within
from inference.results import BundleInfo
from inference.settings import Regimen
from inference.training.cohort import Cohort
from inference.training.virtual_images import Seen, seen_of

WORK = "work"
_IMAGES, _MODELS = 0.7, 0.95
"""Shares of the progress bar that images, and then survival models, end at."""
_NO_FOLLOW_UP = "no patient has a real follow-up image by the landmark and lived beyond it"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ArmsRequest:
    """What is compared on what.

    Attributes
    ----------
    cohort : Cohort
        Prepared; its test patients are evaluated, its others trained the generator and the encoder.
    external : tuple of Cohort
        Whose test patients are forecast by the models of all test patients of `cohort`.
    generator, vectors : str
        Bundles: a shipped name or a folder.
    regimens : mapping of str to Regimen
        Schedule of each regimen by its id.
    """

    cohort: Cohort
    external: tuple[Cohort, ...]
    generator: str
    vectors: str
    regimens: Mapping[str, Regimen]
    plan: ArmsPlan


@dataclass(frozen=True, slots=True)
class SetOfPatients:
    """How many patients of a set there are, and how many virtual images the generator refused."""

    name: str
    cohort: str
    sha256: str
    origin: str
    patients: int
    with_real_follow_up: int
    refused_virtual_images: int


@dataclass(frozen=True, slots=True)
class ArmsReport:
    """Everything that was found.

    Attributes
    ----------
    left_out : mapping of Origin to str
        Tables that could not be made, with the reason.
    """

    generator: BundleInfo
    encoder: BundleInfo
    plan: ArmsPlan
    sets: tuple[SetOfPatients, ...]
    cohorts: Mapping[str, Cohort]
    compared: tuple[Compared, ...]
    figures: tuple[EndPointFigures, ...]
    left_out: Mapping[Origin, str]


def evaluate_arms(request: ArmsRequest, out: Path, workers: int, progress: Progress) -> ArmsReport:
    """Compare the arms; `out` keeps the vectors and forecasts that were made, and is taken up again.

    Raises
    ------
    ModelError
        A bundle is damaged, or it cannot be shown that it saw none of the patients.
    TrainingDataError
        A cohort that cannot be evaluated, too few events, or a folder of another evaluation.
    """
    cohort, external, plan = request.cohort, request.external, request.plan
    check_external(cohort, external)
    generator = check_never_seen(request.generator, "generator", cohort, external)
    encoder = check_never_seen(request.vectors, "image encoder", cohort, external)
    cohorts = _named(cohort, external)
    seen = _seen(request, cohorts, out / WORK, workers, within(progress, 0.0, _IMAGES))
    tables, left_out = _tables(cohort, seen["test"], plan)
    others = {name: _external(cohorts[name], seen[name], plan) for name in cohorts if name != "test"}
    source = {
        "cohorts": {name: c.info.sha256 for name, c in cohorts.items()},
        "generator": generator.sha256,
        "encoder": encoder.sha256,
    }
    made = within(progress, _IMAGES, _MODELS)
    found = compared(tables, others, plan, out / WORK / "forecasts", source, workers, made)
    progress("intervals", _MODELS)
    figures = tuple(f for one in found for f in figures_of(one, plan))
    progress("done", 1.0)
    sets = tuple(_counted(name, cohorts[name], seen[name]) for name in cohorts)
    return ArmsReport(generator, encoder, plan, sets, cohorts, found, figures, left_out)


def _named(cohort: Cohort, external: Sequence[Cohort]) -> dict[str, Cohort]:
    """Return the cohorts by the name of their set in a folder of predictions."""
    found = {"test": cohort}
    for other in external:
        name = "external-" + (re.sub(r"[^A-Za-z0-9]+", "_", other.info.name).strip("_") or "set")
        found[name if name not in found else f"{name}_{len(found)}"] = other
    return found


def _seen(
    request: ArmsRequest, cohorts: Mapping[str, Cohort], work: Path, workers: int, progress: Progress
) -> dict[str, dict[str, Seen]]:
    encoder = ImageVectors.from_bundle(request.vectors)
    if encoder.encoder.settings.modality != request.cohort.info.modality:
        raise TrainingDataError(
            f"the image encoder reads {encoder.encoder.settings.modality}, the cohort is "
            f"{request.cohort.info.modality}"
        )
    generator = load_model(request.generator, BundleKind.GENERATOR)
    plan, found = request.plan, {}
    for number, (name, cohort) in enumerate(cohorts.items()):
        describer = Describer(cohort, encoder, generator, request.regimens, plan.months, plan.seed)
        part = within(progress, number / len(cohorts), (number + 1) / len(cohorts))
        ids = evaluated(cohort, plan.patients)
        found[name] = seen_of(describer, ids, work / f"vectors_{name}", workers, part)
    return found


def _tables(
    cohort: Cohort, seen: Mapping[str, Seen], plan: ArmsPlan
) -> tuple[dict[Origin, ArmTable], dict[Origin, str]]:
    """Return the tables of the test patients; the landmark's is left out where it has too few events."""
    tables, left_out = {Origin.TREATMENT: from_treatment(cohort, seen, plan)}, {}
    folds_of(tables[Origin.TREATMENT], plan)
    try:
        later = from_landmark(cohort, seen, plan)
        if later is None:
            raise TrainingDataError(_NO_FOLLOW_UP)
        folds_of(later, plan)
        tables[Origin.LANDMARK] = later
    except TrainingDataError as error:
        _log.warning("the arms are not compared from the landmark: %s", error)
        left_out[Origin.LANDMARK] = str(error)
    return tables, left_out


def _external(cohort: Cohort, seen: Mapping[str, Seen], plan: ArmsPlan) -> dict[Origin, ArmTable]:
    """Return the tables of an external set; one without events is left out."""
    makers: Mapping[Origin, Callable[[Cohort, Mapping[str, Seen], ArmsPlan], ArmTable | None]] = {
        Origin.TREATMENT: from_treatment,
        Origin.LANDMARK: from_landmark,
    }
    found = {}
    for origin, make in makers.items():
        try:
            table = make(cohort, seen, plan)
        except TrainingDataError as error:
            _log.warning("%s is not compared from the %s: %s", cohort.info.name, origin, error)
            continue
        if table is not None:
            found[origin] = table
    return found


def _counted(name: str, cohort: Cohort, seen: Mapping[str, Seen]) -> SetOfPatients:
    real = sum(any(kind == "real follow-up" for kind in one.vectors.kinds) for one in seen.values())
    refused = sum(one.refused for one in seen.values())
    info = cohort.info
    return SetOfPatients(name, info.name, info.sha256, str(info.origin), len(seen), real, refused)
