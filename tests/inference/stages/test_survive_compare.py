"""Survival and comparison as stages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from inference.case import ClinicalRecord, ClinicalValue
from inference.comparison.benchmark_cohort import BenchmarkReplicate, draw_replicate, load_benchmark
from inference.comparison.confidence import IDENTITY
from inference.comparison.judgement import judge
from inference.comparison.learned import LearnedComparison, learn
from inference.comparison.rule import ComparisonRule
from inference.comparison.stored import ComparisonModel
from inference.errors import UnsupportedRegimen
from inference.models.cox import load_cox_model
from inference.models.evidence import CLINICAL_ONLY, NOTHING_MORE
from inference.randomness import RandomStreams
from inference.results import (
    BundleInfo,
    Comparison,
    GeneratedCourse,
    NotAssessed,
    Reason,
    Survival,
    SurvivalCurve,
)
from inference.settings import PipelineSettings, Regimen
from inference.stages.compare import compare, compare_learned
from inference.stages.survive import survive

SETTINGS = PipelineSettings(
    regimens=tuple(Regimen(id=i, name=i.upper(), source="test") for i in ("haic", "tace", "tace_systemic"))
)
RECORD = ClinicalRecord(
    {
        name: ClinicalValue(name, value)
        for name, value in {
            "age": 66.0,
            "child_pugh_class": "A",
            "portal_vein_thrombosis": False,
            "vascular_invasion": False,
            "tumour_number": 2.0,
            "metastasis": False,
            "afp": 40.0,
            "sex": "M",
        }.items()
    }
)


def test_every_regimen_has_an_answer() -> None:
    survival = survive(RECORD, (), SETTINGS, load_cox_model())
    assert list(survival) == ["haic", "tace", "tace_systemic"]
    assert isinstance(survival["tace"].os, SurvivalCurve)
    assert isinstance(survival["haic"].os, NotAssessed)


def test_comparison_is_refused_with_the_reason() -> None:
    model = load_cox_model()
    refusal = compare(survive(RECORD, (), SETTINGS, model), SETTINGS, model)
    assert isinstance(refusal, NotAssessed)
    assert refusal.reason is Reason.COMPARISON_NOT_SUPPORTED
    assert "covers TACE only" in refusal.detail
    assert "\n" not in refusal.detail


def test_comparison_says_when_not_even_one_regimen_is_covered() -> None:
    model = load_cox_model()
    refusal = compare(survive(ClinicalRecord(), (), SETTINGS, model), SETTINGS, model)
    assert isinstance(refusal, NotAssessed)
    assert "covers none of them for this patient" in refusal.detail


class OnlyTace:
    """A survival model that raises for what it was not fitted on."""

    info = BundleInfo("only TACE", "1", "0", "real: test")
    wants = CLINICAL_ONLY

    def predict(self, clinical, lesions, regimen, evidence=NOTHING_MORE) -> Survival:
        if regimen.id != "tace":
            raise UnsupportedRegimen(f"{self.info.name} was not fitted on {regimen.name}")
        return load_cox_model().predict(clinical, lesions, regimen)


def test_a_regimen_that_a_survival_model_raises_for_is_alone_not_assessed(caplog) -> None:
    survival = survive(RECORD, (), SETTINGS, OnlyTace())
    assert isinstance(survival["tace"].os, SurvivalCurve)
    refusal = survival["haic"].os
    assert refusal == NotAssessed(Reason.REGIMEN_NOT_COVERED, "only TACE was not fitted on HAIC.")
    assert survival["haic"] == Survival(refusal, refusal, refusal)
    assert len(caplog.messages) == 2


def test_comparison_names_each_regimen_that_was_not_forecast_with_its_reason() -> None:
    model = load_cox_model()
    survival = survive(RECORD, (), SETTINGS, model)
    refusal = NotAssessed(Reason.REGIMEN_NOT_COVERED, "the generator was not trained on the regimen TACE.")
    courses = [
        GeneratedCourse("haic", (), ()),
        GeneratedCourse("tace", (), (), refusal),
        GeneratedCourse("tace_systemic", (), ()),
    ]
    said, complete = compare(survival, SETTINGS, model, courses), compare(survival, SETTINGS, model)
    assert isinstance(said, NotAssessed)
    assert isinstance(complete, NotAssessed)
    assert said.detail == f"{complete.detail} TACE was not forecast: {refusal.detail}"


# ------------------------------------------------------------------ a learned comparison


@pytest.fixture(scope="module")
def learned() -> tuple[BenchmarkReplicate, ComparisonModel]:
    streams = RandomStreams(100_321)
    replicate = draw_replicate(load_benchmark(), "heterogeneous", streams, 0)
    found = learn(replicate.cohort, ComparisonRule(draws=300), IDENTITY, streams.derive("draws"))
    assert isinstance(found, LearnedComparison)
    return replicate, ComparisonModel(BundleInfo("compared", "1", "0", "simulated: benchmark"), found)


def drawn(*ids: str) -> list[GeneratedCourse]:
    refusal = NotAssessed(Reason.REGIMEN_NOT_COVERED, "not trained on it.")
    return [GeneratedCourse(r.id, (), (), None if r.id in ids else refusal) for r in SETTINGS.regimens]


def record(names: Sequence[str], row: Sequence[float]) -> ClinicalRecord:
    return ClinicalRecord(
        {name: ClinicalValue(name, float(value)) for name, value in zip(names, row, strict=True)}
    )


def test_a_learned_comparison_prefers_a_regimen_that_was_forecast(learned) -> None:
    replicate, model = learned
    judged = judge(model.learned, replicate.covariates)
    row = replicate.covariates[int(np.argmax(judged.recommended == 2))]
    clinical = record(model.learned.names, row)
    compared = compare_learned(clinical, SETTINGS, model, drawn("tace", "haic", "tace_systemic"))
    found, behind = compared.said, compared.behind
    assert isinstance(found, Comparison)
    assert behind is not None
    assert (behind.recommended, behind.benefit_months) == (found.recommended, found.benefit_months)
    assert found.recommended == "tace_systemic"
    assert found.demonstration
    assert found.benefit_months is not None
    assert found.benefit_months > 3
    assert any(r.startswith("E-value") for r in found.reasons)
    compared = compare_learned(clinical, SETTINGS, model, drawn("tace", "haic"))
    withheld, behind = compared.said, compared.behind
    assert isinstance(withheld, Comparison)
    assert withheld.recommended is None
    assert "nothing was forecast" in withheld.reasons[0]
    assert behind is not None
    assert (behind.recommended, behind.against, behind.confidence) == (None, None, None)
    assert "nothing was forecast" in behind.notes[0]


def test_a_learned_comparison_asks_for_what_is_missing_and_names_unknown_regimens(learned) -> None:
    replicate, model = learned
    compared = compare_learned(RECORD, SETTINGS, model)
    missing = compared.said
    assert compared.behind is None
    assert isinstance(missing, NotAssessed)
    assert missing.reason is Reason.CLINICAL_VALUES_MISSING
    more = PipelineSettings(
        regimens=(*SETTINGS.regimens, Regimen(id="tace_lenvatinib", name="TACE + lenvatinib", source="test"))
    )
    clinical = record(model.learned.names, replicate.covariates[0])
    found = compare_learned(clinical, more, model, drawn("tace")).said
    assert isinstance(found, Comparison)
    assert any("TACE + lenvatinib" in reason for reason in found.reasons)


def test_what_is_not_asked_for_is_no_candidate(learned) -> None:
    replicate, model = learned
    clinical = record(model.learned.names, replicate.covariates[0])
    two = SETTINGS.model_copy(update={"regimens": tuple(r for r in SETTINGS.regimens if r.id != "haic")})
    behind = compare_learned(clinical, two, model, drawn("tace", "tace_systemic")).behind
    assert behind is not None
    assert [estimate.regimen_id for estimate in behind.regimens] == ["tace", "tace_systemic"]
    unknown = Regimen(id="tace_lenvatinib", name="TACE + lenvatinib", source="test")
    none = SETTINGS.model_copy(update={"regimens": (unknown,)})
    said = compare_learned(clinical, none, model).said
    assert isinstance(said, NotAssessed)
    assert said.reason is Reason.COMPARISON_NOT_SUPPORTED
    assert "no patients under TACE + lenvatinib." in said.detail
    one = SETTINGS.model_copy(update={"regimens": tuple(r for r in SETTINGS.regimens if r.id == "tace")})
    said = compare_learned(clinical, one, model, drawn("tace")).said
    assert isinstance(said, NotAssessed)
    assert "tace alone was asked for" in said.detail
