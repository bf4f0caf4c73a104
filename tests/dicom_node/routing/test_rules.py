from __future__ import annotations

import pytest

from dicom_node.errors import ConfigurationError
from dicom_node.routing.facts import ATTRIBUTES, study_facts
from dicom_node.routing.rules import Router, Verdict
from dicom_node.settings import Action, PeerSettings, Rule
from inference.case import Case, Instance, Series
from tests.builders.dicom_files import ct_slice

PACS = PeerSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
OTHER = PeerSettings(name="research", ae_title="RESEARCH", host="127.0.0.1", port=105)


def _facts(calling_ae: str = "PACS", count: int = 12) -> dict:
    headers = [ct_slice(number=n) for n in range(count)]
    for header in headers:
        header.SeriesDescription = "Abdomen portal"
        header.KVP = 120
        header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    instances = tuple(Instance(None, h) for h in headers)  # type: ignore[arg-type]
    return study_facts(Case("1.2.3", (Series("1.2.3.4", "CT", instances),)), calling_ae)


def _router(*rules: Rule) -> Router:
    return Router(rules, [PACS, OTHER])


def test_the_first_true_rule_applies_and_later_ones_are_not_reached() -> None:
    router = _router(
        Rule(name="mr", when='series.exists(s, s.modality == "MR")'),
        Rule(name="ct", when="series.exists(s, s.instances >= 10)", regimens=("tace",), priority=70),
        Rule(name="rest", when="true", action=Action.IGNORE),
    )
    decision = router.decide(_facts())
    assert [t.verdict for t in decision.tried] == [Verdict.FALSE, Verdict.TRUE, Verdict.NOT_REACHED]
    assert decision.plan is not None
    assert (decision.plan.rule, decision.plan.regimens, decision.plan.priority) == ("ct", ("tace",), 70)


def test_results_go_back_to_the_sender_unless_the_rule_says_otherwise() -> None:
    plan = _router(Rule(name="a", when="true")).decide(_facts()).plan
    assert plan is not None
    assert plan.send_to == ("pacs",)
    plan = _router(Rule(name="a", when="true", send_to=("research",))).decide(_facts()).plan
    assert plan is not None
    assert plan.send_to == ("research",)


def test_a_study_from_nobody_known_is_held() -> None:
    decision = _router(Rule(name="a", when="true")).decide(_facts("SCANNER"))
    assert decision.action is Action.HOLD
    assert "SCANNER" in decision.reason


def test_no_rule_ignores() -> None:
    decision = _router(Rule(name="a", when="false")).decide(_facts())
    assert (decision.action, decision.reason) == (Action.IGNORE, "no routing rule applies")


@pytest.mark.parametrize(
    "when",
    [
        'study.attributes.ImageType[2] == "AXIAL"',
        "study.attributes.KVP > 100.0",
        'calling_ae == "PACS" && study.modalities == ["CT"]',
        'series[0].description.contains("portal")',
        "series.filter(s, s.pixel_spacing_mm < 2.0).size() == 1",
        "has(study.attributes.KVP) && !has(study.attributes.EchoTime)",
    ],
)
def test_expressions_see_attributes_series_and_spacing(when: str) -> None:
    assert _router(Rule(name="a", when=when)).decide(_facts()).tried[0].verdict is Verdict.TRUE


@pytest.mark.parametrize(
    ("when", "says"),
    [("study.attributes.EchoTime > 1.0", "EchoTime"), ("study.instances", "not true or false")],
)
def test_a_rule_that_fails_on_a_study_holds_it_and_is_never_skipped(when: str, says: str) -> None:
    decision = _router(Rule(name="a", when=when), Rule(name="b", when="true")).decide(_facts())
    assert decision.action is Action.HOLD
    assert says in decision.reason


@pytest.mark.parametrize("when", ["1 +", "modality == 'CT'", "study.attributes.PatientName == 'x'"])
def test_an_expression_that_cannot_be_used_is_refused_at_load(when: str) -> None:
    with pytest.raises(ConfigurationError, match="rule 'broken'"):
        _router(Rule(name="broken", when=when))


def test_no_attribute_identifies_a_patient() -> None:
    assert not any(k.startswith("Patient") for k in set(ATTRIBUTES) - {"PatientPosition", "PatientSex"})
    assert "Test^Patient" not in str(_facts())
