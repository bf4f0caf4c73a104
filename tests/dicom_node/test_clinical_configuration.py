"""Sources of clinical values in the configuration of a node."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from dicom_node.errors import ConfigurationError, TransientError
from dicom_node.execution import _clinical
from dicom_node.forecast import Order, job_key
from dicom_node.network.contexts import STORAGE_CLASSES, supported_contexts
from dicom_node.selftest import check_clinical
from dicom_node.settings import NodeSettings, load_settings
from inference.case import ClinicalRecord, ClinicalValue, DatedValue, TextToken
from inference.clinical_settings import ENCAPSULATED_PDF
from tests.builders import reports


def settings_with(folder: Path, *sources: dict[str, object], **more: object) -> NodeSettings:
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump({"clinical": {"sources": list(sources)}, **more}), encoding="utf-8")
    return load_settings([path])


SQL = {
    "kind": "sql",
    "name": "registry",
    "url_environment": "HEPATOCAST_TEST_ABSENT",
    "table": "hcc",
    "patient_column": "mrn",
    "variables": {"age": {"column": "age"}},
}


def test_packaged_configuration_reads_the_study_itself() -> None:
    settings = load_settings()
    assert [source.kind for source in settings.clinical_sources.sources] == [
        "dicom_attributes",
        "structured_reports",
    ]
    assert settings.clinical == NodeSettings.model_fields["clinical"].default


def test_clinical_file_is_asked_first(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, {"kind": "dicom_attributes"}, clinical_file="values.csv")
    assert [source.name for source in settings.clinical_sources.sources] == [
        "clinical file",
        "DICOM attributes",
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"kind": "oracle"}, "clinical.sources.0"),
        ({"kind": "file", "name": "registry"}, "path"),
        ({**SQL, "url": "sqlite:///x"}, "url"),
        ({**SQL, "table": "a;b"}, "letters, digits and underscores"),
    ],
)
def test_wrong_source_names_its_setting(tmp_path: Path, source: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        settings_with(tmp_path, source)


def test_examples_of_the_configuration_hold() -> None:
    """What stands as an example in node.yaml is read, with its comment signs removed."""
    text = (Path(__file__).parents[2] / "config" / "node.yaml").read_text(encoding="utf-8")
    start = text.index("# - kind: sql")
    lines = text[start : text.index("listener:")].splitlines()
    examples = yaml.safe_load("\n".join(line[2:] for line in lines if line.startswith("# ")))
    kinds = [example["kind"] for example in examples]
    assert kinds == ["sql", "laboratory_file", "file", "report_texts"]
    NodeSettings.model_validate(
        {**load_settings().model_dump(exclude={"clinical"}), "clinical": {"sources": examples}}
    )


def test_source_that_is_away_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEPATOCAST_TEST_ABSENT", raising=False)
    files = [reports.written(reports.angiogram(), tmp_path / "study" / "xa.dcm")]
    with pytest.raises(TransientError, match="Source 'registry': the environment variable"):
        _clinical(settings_with(tmp_path, SQL), files)
    found = list(check_clinical(settings_with(tmp_path, {"kind": "dicom_attributes"}, SQL)))
    assert [(item.name, item.passed) for item in found] == [("DICOM attributes", True), ("registry", False)]


def test_pdfs_are_accepted_where_they_are_read(tmp_path: Path) -> None:
    packaged = load_settings()
    assert packaged.clinical.sop_classes == ()
    assert len(supported_contexts()) == len(supported_contexts(packaged.clinical.sop_classes))
    reading = settings_with(tmp_path, {"kind": "report_texts"})
    offered = {context.abstract_syntax for context in supported_contexts(reading.clinical.sop_classes)}
    assert ENCAPSULATED_PDF in offered
    assert ENCAPSULATED_PDF not in STORAGE_CLASSES
    assert set(STORAGE_CLASSES) < offered


def test_job_differs_by_what_is_known_over_time_and_in_words(tmp_path: Path) -> None:
    settings = load_settings()
    base = ClinicalRecord({"age": ClinicalValue("age", 61.0, "years", "registry")})
    records = (
        base,
        replace(base, dated=(DatedValue("crp", -3, 4.0),)),
        replace(base, texts=(TextToken("PDF report", "hashed n-grams 1", (1.0, 0.0)),)),
        replace(base, values={"age": ClinicalValue("age", 62.0, "years")}),
    )
    keys = []
    for record in records:
        order = Order((), datetime(2026, 1, 15, tzinfo=UTC), settings.pipeline(), clinical=record)
        keys.append(job_key(order, "0" * 64, {}, settings))
    assert len(set(keys)) == len(records)
    same = replace(base, values={"age": ClinicalValue("age", 61.0, "years", "another source")})
    order = Order((), datetime(2026, 1, 15, tzinfo=UTC), settings.pipeline(), clinical=same)
    assert job_key(order, "0" * 64, {}, settings) == keys[0]
