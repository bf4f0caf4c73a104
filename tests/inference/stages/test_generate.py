from __future__ import annotations

import logging

import pytest

from inference.case import ClinicalRecord
from inference.errors import UnsupportedRegimen
from inference.models.flow.generator import LearnedGenerator
from inference.models.mechanistic import MechanisticGenerator
from inference.randomness import RandomStreams
from inference.results import BundleInfo, GeneratedCourse, Reason
from inference.settings import PipelineSettings, Regimen, TaceSession
from inference.stages.generate import generate
from tests.builders.flow_bundles import TACE as TRAINED
from tests.builders.flow_bundles import write_flow_bundle
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


PROTONS = TACE.model_copy(update={"id": "proton_therapy", "name": "Proton therapy"})
RADIATION = TACE.model_copy(update={"id": "radiation", "name": "Radiation"})


def drawn(generator, *regimens: Regimen, months: tuple[float, ...] = (1.0,)) -> tuple[GeneratedCourse, ...]:
    shown = segmented()
    settings = PipelineSettings(regimens=regimens, months=months, best_response=False)
    return generate(
        baseline(shown), shown, ClinicalRecord(), settings, generator, RandomStreams(0), no_progress
    )


def test_regimen_without_parameters_alone_is_not_assessed(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        protons, tace = drawn(MechanisticGenerator.from_bundle(), PROTONS, TACE)
    assert (protons.regimen_id, protons.time_points, protons.trajectory) == ("proton_therapy", (), ())
    assert protons.not_assessed is not None
    assert protons.not_assessed.reason is Reason.REGIMEN_NOT_COVERED
    assert "no parameters for the regimen proton_therapy" in protons.not_assessed.detail
    (alone,) = drawn(MechanisticGenerator.from_bundle(), TACE)
    assert tace.not_assessed is None
    assert tace.trajectory == alone.trajectory
    assert (tace.time_points[0].images[0].stored == alone.time_points[0].images[0].stored).all()
    (line,) = caplog.messages
    assert line.startswith("the regimen proton_therapy is not assessed: ")


def test_where_no_regimen_is_covered_the_study_is_refused_with_all_reasons() -> None:
    generator = MechanisticGenerator.from_bundle()
    with pytest.raises(UnsupportedRegimen, match="^the mechanistic model has .* regimen proton_therapy$"):
        drawn(generator, PROTONS)
    with pytest.raises(UnsupportedRegimen, match="regimen proton_therapy; .* regimen radiation$"):
        drawn(generator, PROTONS, RADIATION)


class ShortSighted(PlainGenerator):
    """A generator that was trained on fewer months under HAIC than under other regimens."""

    def generate(self, baseline, segmentation, clinical, regimen, settings, streams) -> GeneratedCourse:
        if regimen.id == "haic" and max(settings.months) > 6:
            raise UnsupportedRegimen("the generator was trained on 6 months and cannot draw later ones")
        return GeneratedCourse(regimen.id, (), ())


def test_months_that_were_not_trained_are_refused_by_regimen() -> None:
    haic, tace = drawn(ShortSighted(), HAIC, TACE, months=(3.0, 9.0))
    assert haic.not_assessed is not None
    assert "cannot draw later ones" in haic.not_assessed.detail
    assert tace.not_assessed is None
    assert [c.not_assessed for c in drawn(ShortSighted(), HAIC, TACE, months=(3.0,))] == [None, None]


def test_learned_generator_leaves_out_what_it_was_not_trained_on(tmp_path) -> None:
    generator = LearnedGenerator.from_bundle(write_flow_bundle(tmp_path / "flow"))
    tace, protons = drawn(generator, TRAINED, PROTONS, months=(3.0,))
    assert tace.not_assessed is None
    assert len(tace.time_points) == 1
    assert protons.not_assessed is not None
    assert protons.not_assessed.detail == "the generator was not trained on the regimen Proton therapy."
    with pytest.raises(UnsupportedRegimen, match="trained on 6 months"):
        drawn(generator, TRAINED, months=(12.0,))
