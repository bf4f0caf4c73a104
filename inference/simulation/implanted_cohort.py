"""A cohort of simulated disease in real anatomy: a site's own livers with tumours implanted into them.

Tumours, treatment, clinical values and survival are simulated as for any simulated patient and know
nothing of the person whose liver it is. A model that is trained on such a cohort has seen real livers and
simulated disease, and is a demonstration model like those trained on simulated patients.

A study serves several patients, but never patients of two splits.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from inference.errors import InferenceError, TrainingDataError
from inference.evaluation.segmentation_cases import CaseFiles
from inference.models.protocols import Progress, within
from inference.randomness import RandomStreams
from inference.simulation.cohort import write_cohort
from inference.simulation.cohort_images import Acquired
from inference.simulation.cohort_patient import Kind, Request
from inference.simulation.disease import Appearance
from inference.simulation.implanted import acquire_implanted
from inference.simulation.site_anatomies import (
    AnatomySource,
    SiteAnatomy,
    list_studies,
    prepared_path,
    read_anatomy,
)
from inference.training.cohort import Cohort, Origin, Split

_log = logging.getLogger(__name__)

ANATOMIES = "anatomies"
"""Folder of a cohort that holds the prepared studies, under their digests."""

_INDEX = "prepared.json"
_VALIDATION, _TEST = 0.1, 0.2
_READING = 0.2
"""Share of the progress that reading the studies is."""


class ImplantedRequest(Request):
    """What is wanted of a cohort in real anatomy; everything on which a patient depends."""

    anatomies: tuple[str, ...] = Field(min_length=1, description="digests of the prepared studies")

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        if self.modality != "CT" or self.kind is not Kind.COHORT:
            raise ValueError("tumours are implanted into CT only, and a cohort is written, no DICOM")
        return self

    @property
    def name(self) -> str:
        """Name of the cohort."""
        return f"{Origin.IMPLANTED}, {self.modality}{' shifted' if self.shifted else ''}"

    @property
    def origin(self) -> Origin:
        """Where the patients come from."""
        return Origin.IMPLANTED

    @property
    def prefix(self) -> str:
        """What pseudonyms begin with."""
        return "A"


@dataclass(frozen=True, slots=True)
class LeftOutStudy:
    """A study that was not used, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class PreparedAnatomies:
    """The studies of a folder; `digests` of those that can be used, in the order of their names."""

    digests: tuple[str, ...]
    left_out: tuple[LeftOutStudy, ...]


@dataclass(frozen=True, slots=True)
class ImplantedResult:
    """A cohort, how many studies it was made from, and those that were left out."""

    cohort: Cohort
    studies: int
    left_out: tuple[LeftOutStudy, ...]

    @property
    def by_split(self) -> Mapping[Split, int]:
        """Return the number of patients of each split."""
        found = Counter(self.cohort.patients["split"])
        return {split: found[str(split)] for split in Split}


# ------------------------------------------------------------------ which study


def anatomy_splits(studies: int, seed: int) -> tuple[Split, ...]:
    """Return the split that each study is for: 10 % validation and 20 % test, one at least of each.

    Of two studies none is for testing, a single one is for training.
    """
    test = max(round(_TEST * studies), 1) if studies > 2 else 0
    validation = max(round(_VALIDATION * studies), 1) if studies > 1 else 0
    training = studies - test - validation
    order = [*[Split.TRAIN] * training, *[Split.VALIDATION] * validation, *[Split.TEST] * test]
    places = RandomStreams(seed).derive("anatomies").permutation(studies)
    return tuple(order[int(p)] for p in places)


@dataclass(frozen=True, slots=True)
class Implantation:
    """Chooses a study for a patient by the patient's stream; can be sent to another process.

    Attributes
    ----------
    folder : of the prepared studies
    """

    folder: Path
    request: ImplantedRequest

    def __call__(
        self, appearance: Appearance, wanted: Split, streams: RandomStreams
    ) -> tuple[Acquired, Split]:
        """Return the liver of a patient and its split, which is that of the study.

        A patient of a split that has no study is a training patient; all are test patients of the
        second simulator.
        """
        digests = self.request.anatomies
        splits = anatomy_splits(len(digests), self.request.seed)
        if self.request.shifted:
            splits = (Split.TEST,) * len(digests)
        split = wanted if wanted in splits else Split.TRAIN
        fit = [n for n, s in enumerate(splits) if s is split]
        study = int(streams.derive("which anatomy").choice(fit))
        site = SiteAnatomy.load(self.folder, digests[study])
        return acquire_implanted(site, study, appearance, streams), split


def acquisition_of(request: Request, cohort: Path) -> Implantation | None:
    """Return where the disease of a cohort's patients lies; None for simulated livers."""
    if isinstance(request, ImplantedRequest):
        return Implantation(cohort / ANATOMIES, request)
    return None


# ------------------------------------------------------------------ the cohort


def prepare_anatomies(source: AnatomySource, folder: Path, progress: Progress) -> PreparedAnatomies:
    """Bring the studies of a site to the grid of a cohort; those prepared before are not read again.

    Raises
    ------
    TrainingDataError
        The folder of studies cannot be used, or none of its studies can.
    """
    studies = list_studies(source)
    index = folder / _INDEX
    before = _read_index(index)
    known: dict[str, str] = {}
    left_out: list[LeftOutStudy] = []
    for number, (name, files) in enumerate(studies, 1):
        progress(f"study {number} of {len(studies)}", number / len(studies))
        key = _signature(files, source)
        try:
            digest = before.get(key) or _prepare(files, source, folder)
        except InferenceError as error:
            left_out.append(LeftOutStudy(name, str(error)))
            continue
        if digest in known.values():
            left_out.append(LeftOutStudy(name, "it is the same study as one before"))
            continue
        known[key] = digest
    _log.info("%d of %d studies can be used", len(known), len(studies))
    if not known:
        reasons = "; ".join(f"{s.name}: {s.reason}" for s in left_out)
        raise TrainingDataError(f"no study can be used ({reasons})")
    _write_index(index, before | known)
    return PreparedAnatomies(tuple(known.values()), tuple(left_out))


def write_implanted_cohort(
    request: Request,
    source: AnatomySource,
    patients: int,
    folder: Path,
    workers: int,
    progress: Progress,
) -> ImplantedResult:
    """Simulate a cohort in a site's own livers, or finish one that was begun there.

    Raises
    ------
    TrainingDataError
        MR or DICOM is asked for, no study can be used, or the folder holds patients of another request
        or of other studies.
    """
    if request.modality != "CT" or request.kind is not Kind.COHORT:
        raise TrainingDataError("tumours are implanted into CT only, and a cohort is written, no DICOM")
    found = prepare_anatomies(source, folder / ANATOMIES, within(progress, 0.0, _READING))
    asked = ImplantedRequest.model_validate(request.model_dump() | {"anatomies": found.digests})
    cohort = write_cohort(
        asked, patients, folder, workers, within(progress, _READING, 1.0), acquisition_of(asked, folder)
    )
    return ImplantedResult(cohort, len(found.digests), found.left_out)


def read_request(text: str) -> Request:
    """Read the request of a cohort of either kind.

    Raises
    ------
    ValueError
        It is none.
    """
    kind = ImplantedRequest if "anatomies" in json.loads(text) else Request
    return kind.model_validate_json(text)


def _prepare(files: Sequence[CaseFiles], source: AnatomySource, folder: Path) -> str:
    anatomy = read_anatomy(files, source)
    anatomy.save(folder)
    return anatomy.digest


def _signature(files: Sequence[CaseFiles], source: AnatomySource) -> str:
    """Return a digest of everything on which the preparation of a study depends; it holds no name."""
    total = hashlib.sha256()
    settings = (source.values, source.phase, source.limits.model_dump_json(), source.reader is None)
    total.update(repr(settings).encode())
    for one in files:
        total.update(repr((one.modality, one.phase)).encode())
        for path in (one.image, one.label):
            inside = [] if path is None else sorted(path.rglob("*")) if path.is_dir() else [path]
            for file in inside:
                state = file.stat()
                total.update(f"{file.name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return total.hexdigest()


def _read_index(path: Path) -> dict[str, str]:
    """Return the digests of studies that were prepared and are still there, by their signatures."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {k: d for k, d in stored.items() if prepared_path(path.parent, d).is_file()}


def _write_index(path: Path, known: Mapping[str, str]) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
