from __future__ import annotations

import pytest

from inference.case import ClinicalRecord
from inference.errors import UnsupportedRegimen
from inference.models.mechanistic import MechanisticGenerator
from inference.randomness import RandomStreams
from inference.results import BundleInfo, GeneratedCourse
from inference.settings import PipelineSettings, Regimen, TaceSession
from inference.stages.generate import generate
from tests.builders.liver_volumes import baseline, segmented

TACE = Regimen(id="tace", name="TACE", tace=(TaceSession(day=0),), source="test")
HAIC = Regimen(id="haic", name="HAIC", haic_days=(0, 21), source="test")


class PlainGenerator:
    """A generator without a preparation of its own."""

    info = BundleInfo("plain", "1", "0", "simulated")

    def generate(self, baseline, segmentation, clinical, regimen, settings, streams) -> GeneratedCourse:
        return GeneratedCourse(regimen.id, (), ())


def no_progress(text: str, share: float) -> None:
    pass


def test_courses_come_in_the_order_of_the_regimens_whatever_the_generator() -> None:
    shown = segmented()
    settings = PipelineSettings(regimens=(HAIC, TACE), months=(1.0,), best_response=False)
    for generator in (PlainGenerator(), MechanisticGenerator.from_bundle()):
        courses = generate(
            baseline(shown), shown, ClinicalRecord(), settings, generator, RandomStreams(0), no_progress
        )
        assert [c.regimen_id for c in courses] == ["haic", "tace"]


def test_a_regimen_gets_the_same_course_whichever_others_are_asked_for() -> None:
    shown = segmented()
    images, generator = baseline(shown), MechanisticGenerator.from_bundle()

    def run(*regimens: Regimen) -> dict[str, GeneratedCourse]:
        settings = PipelineSettings(regimens=regimens, months=(2.0,), best_response=False)
        streams = RandomStreams(1)
        courses = generate(images, shown, ClinicalRecord(), settings, generator, streams, no_progress)
        return {c.regimen_id: c for c in courses}

    alone, both = run(TACE)["tace"], run(HAIC, TACE)["tace"]
    assert alone.trajectory == both.trajectory
    assert (alone.time_points[0].images[0].stored == both.time_points[0].images[0].stored).all()


def test_progress_rises_to_one_and_names_no_patient() -> None:
    said: list[tuple[str, float]] = []
    settings = PipelineSettings(regimens=(HAIC, TACE), months=(1.0,), best_response=False)
    shown = segmented()
    generate(
        baseline(shown),
        shown,
        ClinicalRecord(),
        settings,
        PlainGenerator(),
        RandomStreams(0),
        lambda text, share: said.append((text, share)),
    )
    shares = [share for _, share in said]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_regimen_without_parameters_is_refused() -> None:
    shown = segmented()
    other = TACE.model_copy(update={"id": "proton_therapy"})
    with pytest.raises(UnsupportedRegimen):
        generate(
            baseline(shown),
            shown,
            ClinicalRecord(),
            PipelineSettings(regimens=(other,)),
            MechanisticGenerator.from_bundle(),
            RandomStreams(0),
            no_progress,
        )
