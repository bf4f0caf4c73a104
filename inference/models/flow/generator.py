"""The learned generator behind the seam: outcomes are sampled, images are drawn and held to them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from inference.bundle_store import bundle_folder, load_metadata
from inference.case import ClinicalRecord
from inference.errors import ModelError, UnsupportedRegimen
from inference.models.flow.conditions import (
    Prepared,
    Request,
    as_tensor,
    clinical_vector,
    condition_vector,
    prepare,
    request_maps,
)
from inference.models.flow.network import STATE, ChangeNetwork, Drawn, NetworkSettings
from inference.models.flow.placement import draw_time_point
from inference.models.flow.rendering import (
    Rendered,
    drawn_sites,
    free_places,
    held,
    in_crop,
    outgrown,
    scores_of,
    with_new_lesions,
)
from inference.models.flow.requests import LARGEST, request_of
from inference.models.flow.sampler import Draw, SamplerSettings, regress, sample
from inference.models.flow.study import StudyCrop, crop_study
from inference.models.flow.viable_range import viable_range
from inference.models.outcome.features import clinical_features, radiomics
from inference.models.outcome.model import Noise, OutcomeModel
from inference.models.unchanged import without_tumour
from inference.randomness import RandomStreams
from inference.results import (
    Baseline,
    BundleInfo,
    GeneratedCourse,
    GeneratedTimePoint,
    Segmentation,
    TimePointKind,
    TrajectoryPoint,
    Voxels,
)
from inference.settings import Frozen, PipelineSettings, Regimen

_INTERVAL = 0.8
_SITES = 32


class Course(StrEnum):
    """Which course of the disease is drawn."""

    MEDIAN = "median"
    SAMPLED = "sampled"


class GeneratorSettings(Frozen):
    """``generator.json`` of a bundle."""

    modalities: tuple[str, ...]
    network: NetworkSettings
    sampler: SamplerSettings = SamplerSettings()
    draw: Draw = Field(Draw.FLOW, description="flow, or the one-step regression network")


@dataclass(frozen=True, slots=True)
class LearnedGenerator:
    """Draws one course under one regimen: that of median outcomes, or one at random by the seed.

    Attributes
    ----------
    outcomes : mapping of str to OutcomeModel
        By modality.
    course : Course
        `MEDIAN` is shown to people; evaluation draws `SAMPLED` courses with several seeds.
    """

    info: BundleInfo
    settings: GeneratorSettings
    outcomes: Mapping[str, OutcomeModel]
    network: ChangeNetwork
    course: Course = Course.MEDIAN

    @classmethod
    def from_bundle(
        cls, name_or_path: str | Path, draw: Draw | None = None, course: Course = Course.MEDIAN
    ) -> LearnedGenerator:
        """Read a verified bundle; `draw` overrides how its settings draw images.

        Raises
        ------
        ModelError
            The bundle is damaged, or not a generator's.
        """
        info, _ = load_metadata(name_or_path)
        folder = bundle_folder(name_or_path)
        try:
            stored = json.loads((folder / "generator.json").read_text(encoding="utf-8"))
            settings = GeneratorSettings.model_validate(stored)
            if draw is not None:
                settings = settings.model_copy(update={"draw": draw})
            network = ChangeNetwork(settings.network)
            weights = load_file(folder / "models" / f"{settings.draw.value}.safetensors")
            network.load_state_dict({k: v.float() for k, v in weights.items()})
        except (OSError, ValueError, ValidationError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"the generator of the model bundle {folder.name} cannot be read") from error
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = network.eval().requires_grad_(False).to(device)
        network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        models = {m: OutcomeModel.read(folder / m.lower()) for m in settings.modalities}
        return cls(info, settings, models, network, course)

    def outcome_model(self, modality: str) -> OutcomeModel:
        """Return the outcome model of a modality.

        Raises
        ------
        ModelError
            The bundle was not trained on this modality.
        """
        model = self.outcomes.get(modality)
        if model is None:
            raise ModelError(f"the generator {self.info.name} was not trained on {modality}")
        return model

    def prepared(
        self, baseline: Baseline, segmentation: Segmentation, streams: RandomStreams
    ) -> PreparedLearned:
        """Return a generator for this patient alone that has done what all regimens share."""
        return PreparedLearned(self, patient_of(self, baseline, segmentation, streams))

    def generate(
        self,
        baseline: Baseline,
        segmentation: Segmentation,
        clinical: ClinicalRecord,
        regimen: Regimen,
        settings: PipelineSettings,
        streams: RandomStreams,
    ) -> GeneratedCourse:
        """Return the course under one regimen; see `PreparedLearned.generate`."""
        prepared = self.prepared(baseline, segmentation, streams)
        return prepared.generate(baseline, segmentation, clinical, regimen, settings, streams)


@dataclass(frozen=True, slots=True)
class Luck:
    """What is drawn by lot for a patient.

    Attributes
    ----------
    images : array of float32, (40, z/2, y/2, x/2)
        Noise that flow matching starts from, in the whole crop.
    path : Noise
        Of the course that is drawn.
    sites : places of new lesions in the crop, in the order in which they appear
    """

    images: Voxels
    path: Noise
    sites: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class LearnedPatient:
    """What all regimens of one patient share.

    Attributes
    ----------
    places : array of int
        Where new lesions may begin, flat indices of the crop.
    """

    study: StudyCrop
    prepared: Prepared
    radiomics: dict[str, float]
    places: npt.NDArray[np.intp]
    luck: Luck


def patient_of(
    generator: LearnedGenerator, baseline: Baseline, segmentation: Segmentation, streams: RandomStreams
) -> LearnedPatient | None:
    """Return the prepared patient, None where the segmentation has no tumour.

    Raises
    ------
    ModelError
        The bundle was not trained on this modality.
    """
    modality = baseline.primary.modality
    model = generator.outcome_model(modality)
    study = crop_study(baseline, segmentation)
    if not study.crop.lesion.any():
        return None
    prepared = prepare(study.crop, ClinicalRecord(), modality)
    places = free_places(study.crop)
    (luck,) = lucks_of(generator.course, model, study.grid.shape, places, (streams,))
    return LearnedPatient(study, prepared, radiomics(study.crop), places, luck)


def lucks_of(
    course: Course,
    model: OutcomeModel,
    shape: tuple[int, int, int],
    places: npt.NDArray[np.intp],
    each: Sequence[RandomStreams],
) -> Iterator[Luck]:
    """Return what is drawn by lot for a patient, whose crop has a shape; the same for all regimens.

    One for each of some streams; where courses are sampled, they are stratified over them.
    """
    own = [RandomStreams(int(streams.derive("learned").integers(2**62))) for streams in each]
    z, y, x = (n // 2 for n in shape)
    sampled = course is Course.SAMPLED
    paths = model.noise(len(own), own[0].derive("course")) if sampled else model.median(len(own))
    for place, streams in enumerate(own):
        images: Voxels = streams.derive("images").standard_normal((8 * STATE, z, y, x), dtype=np.float32)
        sites = drawn_sites(places, shape, streams.derive("sites"), _SITES)
        yield Luck(images, paths.alone(place), sites)


@dataclass(frozen=True, slots=True)
class PreparedLearned:
    """A generator that holds one patient."""

    generator: LearnedGenerator
    patient: LearnedPatient | None

    @property
    def info(self) -> BundleInfo:
        """Of the generator."""
        return self.generator.info

    def redrawn(self, each: Sequence[RandomStreams]) -> Iterator[PreparedLearned]:
        """Return the same patient with other luck for each of some streams.

        Of one, it is what `LearnedGenerator.prepared` would return; of several, their courses are stratified.
        """
        patient = self.patient
        if patient is None:
            yield from (self for _ in each)
            return
        model = self.generator.outcome_model(patient.prepared.modality)
        shape = patient.study.grid.shape
        for luck in lucks_of(self.generator.course, model, shape, patient.places, each):
            yield PreparedLearned(self.generator, replace(patient, luck=luck))

    def request(self, clinical: ClinicalRecord, regimen: Regimen, months: float) -> Request:
        """Return the volumes that the follow-up of a month would be asked to show, without drawing it.

        Raises
        ------
        UnsupportedRegimen
            The bundle was not trained on this regimen, or not so far ahead.
        """
        if self.patient is None:
            return Request({}, {}, {})
        model = self.generator.outcome_model(self.patient.prepared.modality)
        _check_trained(model, regimen, months)
        return _Drawing(self.generator, model, self.patient, regimen, clinical).request(months)

    def generate(
        self,
        baseline: Baseline,
        segmentation: Segmentation,
        clinical: ClinicalRecord,
        regimen: Regimen,
        settings: PipelineSettings,
        streams: RandomStreams,
    ) -> GeneratedCourse:
        """Return scheduled time points, the best response, and the monthly trajectory.

        The best response is the month with the least viable tumour on the trajectory, unless it is
        scheduled already or the tumour is never smaller than at baseline.

        Raises
        ------
        UnsupportedRegimen
            The bundle was not trained on this regimen, or not so far ahead.
        """
        model = self.generator.outcome_model(baseline.primary.modality)
        _check_trained(model, regimen, max((0.0, *settings.months)))
        if self.patient is None:
            return without_tumour(baseline, segmentation, regimen, settings, round(model.horizon))
        patient = replace_clinical(self.patient, clinical)
        drawn = _Drawing(self.generator, model, patient, regimen, clinical)
        trajectory = drawn.trajectory()
        wanted = [(m, TimePointKind.SCHEDULED) for m in settings.months]
        best = min(trajectory[1:], key=lambda p: (p.viable_ml, p.months))
        if settings.best_response and best.months not in settings.months:
            if best.viable_ml < trajectory[0].viable_ml:
                wanted.append((best.months, TimePointKind.BEST_RESPONSE))
        points = tuple(
            drawn.time_point(baseline, segmentation, months, kind) for months, kind in sorted(wanted)
        )
        return GeneratedCourse(regimen.id, points, trajectory)


def _check_trained(model: OutcomeModel, regimen: Regimen, months: float) -> None:
    if regimen.id not in model.settings.regimens:
        raise UnsupportedRegimen(f"the generator was not trained on the regimen {regimen.name}")
    if months > model.horizon + 0.5:
        raise UnsupportedRegimen(
            f"the generator was trained on {model.horizon:g} months and cannot draw later ones"
        )


def replace_clinical(patient: LearnedPatient, clinical: ClinicalRecord) -> LearnedPatient:
    """Return the patient with clinical values in the conditions of the network."""
    return replace(patient, prepared=replace(patient.prepared, clinical=clinical_vector(clinical)))


class _Drawing:
    """One patient under one regimen."""

    def __init__(
        self,
        generator: LearnedGenerator,
        model: OutcomeModel,
        patient: LearnedPatient,
        regimen: Regimen,
        clinical: ClinicalRecord,
    ) -> None:
        self.generator, self.model, self.patient, self.regimen = generator, model, patient, regimen
        self.x = model.standardised(patient.radiomics | clinical_features(clinical))
        self.device = next(generator.network.parameters()).device

    def request(self, months: float) -> Request:
        """Return the volumes of the drawn course at a month."""
        return request_of(
            self.model, self.x, self.patient.prepared, self.regimen, months, self.patient.luck.path
        )

    def interval(self, months: float) -> tuple[float, float]:
        """Return the 80 % interval of viable tumour in ml."""
        base = float(self.patient.prepared.viable_ml.sum())
        most = LARGEST * self.patient.prepared.liver_ml
        low, high = self.model.viable_interval(self.x, self.regimen, months, _INTERVAL)
        return min(low * base, most), min(high * base, most)

    def trajectory(self) -> tuple[TrajectoryPoint, ...]:
        """Return the burden of each month up to the last one that was trained on."""
        prepared = self.patient.prepared
        base, total = float(prepared.viable_ml.sum()), float(prepared.total_ml.sum())
        points = [TrajectoryPoint(0.0, base, total, (base, base))]
        for month in range(1, round(self.model.horizon) + 1):
            asked = self.request(float(month))
            points.append(
                TrajectoryPoint(float(month), asked.viable_ml, asked.total_ml, self.interval(month))
            )
        return tuple(points)

    def answer(self, request: Request, months: float) -> Drawn:
        """Return the network's answer, in the box of the liver."""
        prepared, settings = self.patient.prepared, self.generator.settings
        fields = as_tensor(prepared.fields, self.device)
        requests = as_tensor(request_maps(prepared, request), self.device)
        vector = as_tensor(condition_vector(prepared, self.regimen, months, request), self.device)
        if settings.draw is Draw.REGRESSION:
            return regress(self.generator.network, fields, requests, vector)
        half = tuple(slice(s.start // 2, s.stop // 2) for s in prepared.box)
        noise = as_tensor(self.patient.luck.images[(slice(None), *half)], self.device)
        return sample(self.generator.network, fields, requests, vector, noise, settings.sampler)

    def drawn(self, months: float) -> Rendered:
        """Return the follow-up of a month in the crop, held to its request."""
        request = self.request(months)
        answer = self.answer(request, months)
        prepared, study = self.patient.prepared, self.patient.study
        scores = held(scores_of(answer.logits[0].float().cpu().numpy(), prepared), prepared, request)
        whole = in_crop(scores, answer.levels[0].float().cpu().numpy(), prepared, study.grid.shape)
        whole = outgrown(whole, study.crop, request)
        new = with_new_lesions(whole.scores, study.crop, request.new_ml, self.patient.luck.sites)
        return Rendered(new, whole.levels)

    def time_point(
        self, baseline: Baseline, segmentation: Segmentation, months: float, kind: TimePointKind
    ) -> GeneratedTimePoint:
        """Return images and labels of a month on the grid of the study."""
        drawn, study, interval = self.drawn(months), self.patient.study, self.interval(months)
        images, labels = draw_time_point(baseline, segmentation, study, drawn)
        extents = viable_range(segmentation, study, drawn.scores, labels, interval)
        return GeneratedTimePoint(months, kind, images, labels, interval, extents)


__all__ = ["Course", "GeneratorSettings", "LearnedGenerator", "PreparedLearned"]
