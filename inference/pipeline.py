"""The ordered stages of a forecast.

select -> load -> segment -> generate -> respond -> check_images -> describe -> survive -> compare -> consult

To add a step: a file in ``inference/stages`` and one line in `run`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from inference.bundle_store import BundleKind
from inference.case import Case, ClinicalRecord, SeriesRole
from inference.clinical.summary import summarise, with_imaging
from inference.comparison.stored import ComparisonModel
from inference.errors import ModelError
from inference.imaging.measurement import liver_ml
from inference.imaging.phase_evidence import PhaseReader
from inference.models.catalogue import default_folders, load_model
from inference.models.protocols import (
    Generator,
    ImageDescriber,
    LesionOutliner,
    Progress,
    SecondReader,
    Segmenter,
    SurvivalModel,
    within,
)
from inference.models.second_opinions.loading import load_readers
from inference.models.seg_in_study import SegInStudy
from inference.models.segmenter_chain import SegmenterChain
from inference.randomness import RandomStreams
from inference.results import (
    AssessedPatient,
    BundleInfo,
    GeneratedCourse,
    RegimenForecast,
    StudyResults,
    Survival,
)
from inference.settings import PipelineSettings
from inference.stages.check_images import check_images
from inference.stages.compare import Compared, compare, compare_learned
from inference.stages.consult import consult
from inference.stages.describe import describe
from inference.stages.generate import generate
from inference.stages.load import load
from inference.stages.respond import measure_baseline, respond
from inference.stages.segment import segment
from inference.stages.selection import select
from inference.stages.survive import survive

_SERVED = (
    BundleKind.SEGMENTER,
    BundleKind.PHASE,
    BundleKind.GENERATOR,
    BundleKind.SURVIVAL,
    BundleKind.COMPARISON,
)
"""Parts of the forecast that are loaded whatever the others are."""


@dataclass(frozen=True, slots=True)
class Bundles:
    """The models of one forecast.

    Attributes
    ----------
    image_vectors : ImageDescriber or None
        For a survival model that was trained with its vectors; others take none.
    second_readers : tuple of SecondReader
        Asked beside the forecast.
    """

    segmenter: Segmenter
    generator: Generator
    survival: SurvivalModel
    phase: PhaseReader | None = None
    outliner: LesionOutliner | None = None
    comparison: ComparisonModel | None = None
    image_vectors: ImageDescriber | None = None
    second_readers: tuple[SecondReader, ...] = ()

    @classmethod
    def shipped(cls) -> Bundles:
        """Load the models that come with the product, each verified against its digest.

        Raises
        ------
        ModelError
            A bundle is damaged.
        """
        return cls.load(default_folders())

    @classmethod
    def load(
        cls,
        folders: Mapping[BundleKind, Path],
        site: Sequence[Segmenter] = (),
        second_opinions: Sequence[Path] = (),
    ) -> Bundles:
        """Load models from the folders of their bundles, each verified against its digest.

        Parameters
        ----------
        folders : mapping
            Folder of the bundle of each part; a generator and a survival model are needed.
        site : sequence of Segmenter
            Segmenters of the site, tried after a segmentation in the study and before the bundle's.
        second_opinions : sequence of Path
            Folders of the second readers' bundles; one that cannot be read is reported, and costs nothing.

        Raises
        ------
        ModelError
            A bundle is absent, damaged or incompatible.
        """
        models = {kind: load_model(folder, kind) for kind, folder in folders.items() if kind in _SERVED}
        missing = [k for k in (BundleKind.GENERATOR, BundleKind.SURVIVAL) if k not in models]
        if missing:
            raise ModelError(f"there is no {missing[0]} bundle")
        own, survival = models.get(BundleKind.SEGMENTER), models[BundleKind.SURVIVAL]
        return cls(
            segmenter=SegmenterChain((SegInStudy(), *site, *((own,) if own else ()))),
            generator=models[BundleKind.GENERATOR],
            survival=survival,
            phase=models.get(BundleKind.PHASE),
            outliner=own,
            comparison=models.get(BundleKind.COMPARISON),
            image_vectors=_describer(folders, survival),
            second_readers=load_readers(second_opinions),
        )

    def infos(self) -> Mapping[str, BundleInfo]:
        """Return what each model is, by its part in the forecast; the segmenter may be one of several."""
        found = {
            "segmenter": self.segmenter.info,
            "generator": self.generator.info,
            "survival": self.survival.info,
        }
        if self.phase is not None:
            found["phase"] = self.phase.info
        if self.comparison is not None:
            found["comparison"] = self.comparison.info
        if self.image_vectors is not None:
            found["image_vectors"] = self.image_vectors.info
        # Two of them may have one name, and each must change the identity of the results.
        found |= {f"second_opinion {n} {r.info.name}": r.info for n, r in enumerate(self.second_readers, 1)}
        return found


def _describer(folders: Mapping[BundleKind, Path], survival: SurvivalModel) -> ImageDescriber | None:
    """Load the image encoder for a survival model that takes image vectors; no result names it otherwise."""
    folder = folders.get(BundleKind.IMAGE_VECTORS)
    if folder is None or not survival.wants.image_encoder:
        return None
    found: ImageDescriber = load_model(folder, BundleKind.IMAGE_VECTORS)
    return found


@dataclass(slots=True)
class _Stages:
    """Times the stages and tells the listener of `progress` which one runs."""

    progress: Progress
    timings_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, text: str, share: float) -> Iterator[None]:
        self.progress(text, share)
        started = time.perf_counter()
        yield
        self.timings_s[name] = self.timings_s.get(name, 0.0) + time.perf_counter() - started


def run(
    case: Case,
    settings: PipelineSettings,
    bundles: Bundles,
    streams: RandomStreams,
    progress: Progress,
) -> StudyResults:
    """Forecast one study.

    A regimen that a model was not trained on is `NotAssessed`, and the others are forecast.

    Parameters
    ----------
    case : Case
        The files of one study, and clinical values.
    settings : PipelineSettings
    bundles : Bundles
    streams : RandomStreams
        Random generators by name; the same seed gives the same results.
    progress : Progress
        Called with what is being done and the share done.

    Raises
    ------
    RejectedInput
        The study cannot be forecast, under any regimen; the message is the reason that people read.
    ModelError
        A model failed.
    """
    stages = _Stages(progress)
    with stages.stage("load", "choosing and loading series", 0.0):
        bundles.segmenter.check(case)
        baseline = load(select(case), bundles.phase)
    with stages.stage("segment", "segmenting liver and tumours", 0.1):
        baseline, segmentation = segment(
            case, baseline, bundles.segmenter, settings.segmentation, settings.doubtful, bundles.phase
        )
    with stages.stage("respond", "measuring the tumours", 0.2):
        lesions = measure_baseline(baseline, segmentation)
    with stages.stage("generate", "drawing follow-up images", 0.25):
        courses = generate(
            baseline,
            segmentation,
            case.clinical,
            settings,
            bundles.generator,
            streams,
            within(progress, 0.25, 0.9),
        )
    with stages.stage("respond", "measuring response", 0.9):
        points = [respond(baseline, segmentation, lesions, course) for course in courses]
    with stages.stage("check", "looking at the generated images", 0.92):
        points = check_images(baseline, segmentation, points, bundles.outliner)
    clinical = with_imaging(case.clinical, lesions, liver_ml(segmentation.labels, baseline.primary.grid))
    with stages.stage("survive", "predicting survival", 0.94):
        angiographies = [series for series in case.series if series.role is SeriesRole.DSA]
        seen = describe(
            baseline,
            segmentation,
            clinical,
            courses,
            bundles.image_vectors,
            bundles.survival,
            angiographies,
        )
        survival = survive(clinical, lesions, settings, bundles.survival, seen.evidence)
    with stages.stage("compare", "comparing regimens", 0.97):
        compared = _compare(clinical, survival, settings, bundles, courses)
    with stages.stage("consult", "asking for second opinions", 0.98):
        patient = AssessedPatient(baseline, segmentation, lesions, clinical)
        opinions = consult(patient, settings.regimens, bundles.second_readers)
    return StudyResults(
        baseline=baseline,
        segmentation=segmentation,
        baseline_lesions=lesions,
        clinical=summarise(clinical),
        forecasts=tuple(
            RegimenForecast(r.id, r.name, time_points, course.trajectory, survival[r.id], course.not_assessed)
            for r, time_points, course in zip(settings.regimens, points, courses, strict=True)
        ),
        comparison=compared.said,
        bundles={**bundles.infos(), "segmenter": segmentation.bundle},
        seed=settings.seed,
        timings_s=stages.timings_s,
        second_opinions=opinions,
        regimen_comparison=compared.behind,
        notes=seen.notes,
    )


def _compare(
    clinical: ClinicalRecord,
    survival: Mapping[str, Survival],
    settings: PipelineSettings,
    bundles: Bundles,
    courses: Sequence[GeneratedCourse],
) -> Compared:
    if bundles.comparison is None:
        return Compared(compare(survival, settings, bundles.survival, courses), None)
    return compare_learned(clinical, settings, bundles.comparison, courses)
