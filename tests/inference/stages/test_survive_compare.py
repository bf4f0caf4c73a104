"""Survival and comparison as stages."""

from __future__ import annotations

from inference.case import ClinicalRecord, ClinicalValue
from inference.errors import UnsupportedRegimen
from inference.models.cox import load_cox_model
from inference.results import BundleInfo, GeneratedCourse, NotAssessed, Reason, Survival, SurvivalCurve
from inference.settings import PipelineSettings, Regimen
from inference.stages.compare import compare
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

    def predict(self, clinical, lesions, regimen) -> Survival:
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
