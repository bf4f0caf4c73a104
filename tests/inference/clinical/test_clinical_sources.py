"""Sources of clinical values: what each gives, who wins, and that no patient is ever named."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileDataset

from inference.case import ClinicalRecord, DatedValue
from inference.clinical.files import KNOWN
from inference.clinical.sources.attributes import DicomAttributes
from inference.clinical.sources.report_texts import ReportTexts, pdf_text
from inference.clinical.sources.structured_reports import BY_LOINC, UCUM, StructuredReports
from inference.clinical.sources.study import StudyKeys, keys_of, study_objects
from inference.clinical.sources.table import SOURCES, source_states, study_record
from inference.clinical.text_encoder import HashedNgrams, scrubbed
from inference.clinical_settings import (
    ClinicalSettings,
    DicomAttributesSettings,
    ReportTextsSettings,
    StructuredReportsSettings,
)
from inference.errors import ClinicalError
from tests.builders import reports as build
from tests.builders.reports import BASIC_TEXT_SR, Person, num

PERSON = Person(issuer="HOSPITAL")
SECRETS = (PERSON.patient_id, "DOE", "JOHN")
ATTRIBUTES = DicomAttributesSettings(kind="dicom_attributes")
REPORTS = StructuredReportsSettings(kind="structured_reports")
TEXTS = ReportTextsSettings(kind="report_texts")


def plain(record: ClinicalRecord) -> dict[str, object]:
    return {name: value.value for name, value in record.values.items()}


def asked(kind: Callable[..., Any], settings: object, folder: Path, *objects: FileDataset) -> ClinicalRecord:
    """Write objects and ask a source of them."""
    files = [build.written(ds, folder / f"{k}.dcm") for k, ds in enumerate(objects)]
    found = study_objects(files)
    record: ClinicalRecord = kind(settings, found).record_for(keys_of(found))
    return record


def settings_of(*sources: dict[str, object]) -> ClinicalSettings:
    return ClinicalSettings.model_validate({"sources": sources})


# ------------------------------------------------------------------ attributes


def with_attributes(**attributes: object) -> FileDataset:
    ds = build.angiogram(PERSON)
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"PatientAge": "063Y", "PatientSex": "M"}, {"age": 63.0, "sex": "M"}),
        ({"PatientAge": "018M"}, {"age": 1.0}),
        ({"PatientAge": "104W"}, {"age": 1.0}),
        ({"PatientAge": "63"}, {}),
        ({"PatientBirthDate": "19600116"}, {"age": 65.0}),
        ({"PatientBirthDate": "19600115"}, {"age": 66.0}),
        ({"PatientBirthDate": "20270101"}, {}),
        ({"PatientAge": "063Y", "PatientBirthDate": "19500101"}, {"age": 63.0}),
        ({"PatientSex": "O"}, {}),
        ({"PatientWeight": "71.5", "PatientSize": "1.68"}, {"weight": 71.5, "height": 168.0}),
        ({"PatientWeight": "0", "PatientSize": ""}, {}),
    ],
)
def test_attributes(tmp_path: Path, attributes: dict[str, object], expected: dict[str, object]) -> None:
    record = asked(DicomAttributes, ATTRIBUTES, tmp_path, with_attributes(**attributes))
    assert plain(record) == pytest.approx(expected)
    assert {v.source for v in record.values.values()} <= {"DICOM attributes"}


@pytest.mark.parametrize(
    ("attributes", "name"), [({"PatientAge": "163Y"}, "age"), ({"PatientSize": "168"}, "height")]
)
def test_implausible_attribute_is_refused(tmp_path: Path, attributes: dict[str, object], name: str) -> None:
    with pytest.raises(ClinicalError, match=f"Source 'DICOM attributes': '{name}' is outside") as refusal:
        asked(DicomAttributes, ATTRIBUTES, tmp_path, with_attributes(**attributes))
    assert not any(secret in str(refusal.value) for secret in SECRETS)


def test_first_object_with_an_attribute_counts(tmp_path: Path) -> None:
    first = with_attributes()
    second = build.angiogram(PERSON, 2)
    second.PatientAge = "061Y"
    (tmp_path / "zz.txt").write_text("not DICOM")
    assert plain(asked(DicomAttributes, ATTRIBUTES, tmp_path, first, second)) == {"age": 61.0}


def test_objects_of_another_study_are_not_looked_at(tmp_path: Path) -> None:
    other = build.angiogram(Person(study="1.2.3"), 2)
    other.PatientAge = "061Y"
    assert plain(asked(DicomAttributes, ATTRIBUTES, tmp_path, with_attributes(), other)) == {}


# ------------------------------------------------------------------ structured reports


def reported(folder: Path, *items: Dataset, **more: Any) -> dict[str, object]:
    return plain(asked(StructuredReports, REPORTS, folder, build.structured_report(items, PERSON, **more)))


def test_every_unit_is_one_of_the_table() -> None:
    known = {unit for v in KNOWN.values() for unit in v.units} | {"1"}
    assert set(UCUM.values()) <= known
    assert set(BY_LOINC.values()) == {v.name for v in KNOWN.values() if v.loinc is not None}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (num("1751-7", "3.8", "g/dL"), {"albumin": 38.0}),
        (num("14631-6", "17", "umol/L"), {"bilirubin": 17.0}),
        (num("14631-6", "1.0", "mg/dL"), {"bilirubin": 17.104}),
        (num("1975-2", "1.0", "mg/dL"), {"bilirubin": 17.104}),
        (num("2160-0", "1.0", "mg/dL"), {"creatinine": 88.42}),
        (num("8302-2", "1.68", "m"), {"height": 168.0}),
        (num("30525-0", "63", "a"), {"age": 63.0}),
        (num("1834-1", "100", "[IU]/mL"), {"afp": 121.0}),
        (num("777-3", "150", "10*3/uL"), {"platelets": 150.0}),
        (num("6301-6", "1.1", "{INR}"), {"inr": 1.1}),
        (num("6301-6", "1.1", "1"), {"inr": 1.1}),
        (num("1751-7", "38", "g/L", scheme="LOINC"), {"albumin": 38.0}),
        (num("1751-7", "38", "g/L", scheme="99LOCAL"), {}),
        (num("1751-7", "38", "MG/L"), {}),
        (num("1751-7", "38", "g/L", units="99LOCAL"), {}),
        (num("1751-7", "", "g/L"), {}),
        (num("2345-7", "5.5", "mmol/L"), {}),
    ],
)
def test_coded_numbers(tmp_path: Path, item: Dataset, expected: dict[str, object]) -> None:
    assert reported(tmp_path, item) == pytest.approx(expected)


def test_nested_numbers_are_found_and_what_describes_them_is_not(tmp_path: Path) -> None:
    albumin = num("1751-7", "38", "g/L")
    albumin.ContentSequence = [num("1742-6", "40", "U/L")]
    nested = build.container(build.container(albumin), num("1920-8", "61", "U/L"))
    assert reported(tmp_path, nested) == {"albumin": 38.0, "ast": 61.0}


def test_latest_value_up_to_the_study_counts(tmp_path: Path) -> None:
    items = (
        num("1751-7", "30", "g/L", "20260101080000"),
        num("1751-7", "38", "g/L", "20260114080000"),
        num("1751-7", "20", "g/L", "20260116080000"),
    )
    assert reported(tmp_path, *items) == {"albumin": 38.0}


def test_report_of_a_later_day_is_not_used(tmp_path: Path) -> None:
    assert reported(tmp_path, num("1751-7", "38", "g/L"), content_date="20260201") == {}


def test_two_different_values_of_a_day_are_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    items = (num("1751-7", "38", "g/L"), num("1751-7", "31", "g/L"), num("1742-6", "40", "U/L"))
    with caplog.at_level(logging.INFO):
        assert reported(tmp_path, *items) == {"alt": 40.0}
    assert "albumin twice" in caplog.text
    assert not any(secret in caplog.text for secret in (*SECRETS, "38", "31"))


def test_implausible_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClinicalError, match="Source 'structured reports': 'albumin' is outside"):
        reported(tmp_path, num("1751-7", "3.8", "g/L"))


def test_own_and_damaged_reports_are_no_source(tmp_path: Path) -> None:
    own = build.structured_report([num("1751-7", "38", "g/L")], PERSON)
    own.Manufacturer = "Hepatocast"
    assert plain(asked(StructuredReports, REPORTS, tmp_path, own)) == {}
    good = build.written(build.structured_report([num("1751-7", "38", "g/L")], PERSON), tmp_path / "cut.dcm")
    good.write_bytes(good.read_bytes()[:-30])
    objects = study_objects([good])
    assert plain(StructuredReports(REPORTS, objects).record_for(keys_of(objects))) in ({}, {"albumin": 38.0})


# ------------------------------------------------------------------ texts


def test_text_of_a_report_becomes_a_vector_without_names(tmp_path: Path) -> None:
    words = "Mr. John Doe, MRN-SECRET-77. Tumour thrombus in the portal vein."
    report = build.structured_report([build.container(build.said(words))], PERSON, BASIC_TEXT_SR)
    (token,) = asked(ReportTexts, TEXTS, tmp_path, report).texts
    assert token.source == "structured report"
    assert token.encoder == HashedNgrams.name
    plain_text = scrubbed(words, ("DOE^JOHN", "MRN-SECRET-77"))
    assert token.vector == pytest.approx(HashedNgrams().encode(plain_text))
    assert token.vector != pytest.approx(HashedNgrams().encode(words))


def test_text_of_a_pdf(tmp_path: Path) -> None:
    (token,) = asked(ReportTexts, TEXTS, tmp_path, build.encapsulated_pdf("Resection of segment VI")).texts
    assert token.source == "PDF report"
    near = HashedNgrams().encode("resection of segment VI")
    assert sum(a * b for a, b in zip(token.vector, near, strict=True)) > 0.95


def test_pdf_without_text_or_sense_gives_no_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    empty = build.encapsulated_pdf("")
    own = build.encapsulated_pdf("Resection")
    own.Manufacturer = "Hepatocast"
    assert asked(ReportTexts, TEXTS, tmp_path, empty).texts == ()
    assert asked(ReportTexts, TEXTS, tmp_path, own).texts == ()
    with caplog.at_level(logging.ERROR + 1, "pypdf"):
        for content in (b"", b"%PDF-1.4 nonsense", b"\0" * 100, build.pdf("Resection")[:200]):
            assert pdf_text(build.encapsulated_pdf("", content=content)) == ""


# ------------------------------------------------------------------ values over time


def laboratory(folder: Path, *rows: str) -> dict[str, object]:
    path = folder / "laboratory.csv"
    path.write_text("\n".join(["issuer,patient_id,date,variable,value", *rows]) + "\n", encoding="utf-8")
    return {"kind": "laboratory_file", "name": "laboratory", "path": str(path)}


def angiogram_in(folder: Path, person: Person = PERSON) -> list[Path]:
    return [build.written(build.angiogram(person), folder / "study" / "xa.dcm")]


OURS = f"HOSPITAL,{PERSON.patient_id}"


def test_dated_values_and_the_last_one_before_the_study(tmp_path: Path) -> None:
    rows = (
        f"{OURS},2026-01-01,albumin [g/dL],3.0",
        f"{OURS},2026-01-13,albumin [g/L],35",
        f"{OURS},2026-01-20,albumin [g/L],20",
        f"{OURS},2025-11-01,crp [mg/L],9",
        "HOSPITAL,OTHER,2026-01-13,crp [mg/L],50",
        f",{PERSON.patient_id},2026-01-13,crp [mg/L],51",
    )
    record = study_record(settings_of(laboratory(tmp_path, *rows)), angiogram_in(tmp_path))
    assert plain(record) == {"albumin": 35.0}
    assert record.values["albumin"].source == "laboratory"
    assert record.dated == (
        DatedValue("albumin", -14, 30.0),
        DatedValue("albumin", -2, 35.0),
        DatedValue("albumin", 5, 20.0),
        DatedValue("crp", -75, 9.0),
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"{OURS},2026-01-01,albumin,38", "row 2: 'albumin' has no unit"),
        (f"{OURS},01.01.2026,albumin [g/L],38", "row 2: a date is not written as YYYY-MM-DD"),
        (f"{OURS},2026-02-30,albumin [g/L],38", "row 2: a date is not written as YYYY-MM-DD, or does not"),
        (f"{OURS},2026-01-01,sex,F", "row 2: 'sex' is no laboratory value"),
        (f"{OURS},2026-01-01,albumin [g/L],", "row 2: value is not given"),
        (",,2026-01-01,albumin [g/L],38", "row 2: give study_instance_uid or patient_id"),
        (f"{OURS},2026-01-01,albumine [g/L],38", "did you mean 'albumin'"),
    ],
)
def test_laboratory_refusals(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(ClinicalError, match=message.replace("(", r"\(")) as refusal:
        study_record(settings_of(laboratory(tmp_path, row)), angiogram_in(tmp_path))
    assert not any(secret in str(refusal.value) for secret in SECRETS)


def test_two_values_of_one_day_are_refused(tmp_path: Path) -> None:
    rows = (f"{OURS},2026-01-01,crp [mg/L],3", f"{OURS},2026-01-01,crp [mg/L],4")
    with pytest.raises(ClinicalError, match="'crp' has two different values on one day"):
        study_record(settings_of(laboratory(tmp_path, *rows)), angiogram_in(tmp_path))


def test_study_without_a_date(tmp_path: Path) -> None:
    undated = Person(issuer="HOSPITAL", study_date="")
    source = laboratory(tmp_path, f"{OURS},2026-01-01,crp [mg/L],3")
    with pytest.raises(ClinicalError, match="the study has no date"):
        study_record(settings_of(source), angiogram_in(tmp_path, undated))


def test_empty_id_never_matches(tmp_path: Path) -> None:
    nobody = Person(patient_id="", issuer="")
    source = laboratory(tmp_path, ",  x,2026-01-01,crp [mg/L],3")
    assert study_record(settings_of(source), angiogram_in(tmp_path, nobody)) == ClinicalRecord()


# ------------------------------------------------------------------ all together


def test_every_kind_of_settings_has_a_source() -> None:
    kinds = {"file", "laboratory_file", "sql", "dicom_attributes", "structured_reports", "report_texts"}
    assert set(SOURCES) == kinds


def test_first_source_wins_and_disagreement_is_said_without_values(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clinical = tmp_path / "clinical.csv"
    clinical.write_text(f"issuer,patient_id,age,albumin [g/L]\n{OURS},61,38\n", encoding="utf-8")
    image = with_attributes(PatientAge="067Y", PatientSex="F")
    report = build.structured_report([num("1751-7", "38", "g/L"), num("1988-5", "4", "mg/L")], PERSON)
    files = [build.written(ds, tmp_path / f"{k}.dcm") for k, ds in enumerate((image, report))]
    with caplog.at_level(logging.INFO):
        record = study_record(ClinicalSettings().after_file(clinical), files)
    assert plain(record) == {"age": 61.0, "albumin": 38.0, "sex": "F", "crp": 4.0}
    sources = {name: value.source for name, value in record.values.items()}
    assert sources == {
        "age": "clinical file",
        "albumin": "clinical file",
        "sex": "DICOM attributes",
        "crp": "structured reports",
    }
    (message,) = [r.getMessage() for r in caplog.records if "disagree" in r.getMessage()]
    assert message == (
        "clinical sources disagree on age: that of 'clinical file' is used, not that of 'DICOM attributes'"
    )
    assert not any(secret in caplog.text for secret in (*SECRETS, "61", "67"))


def test_nothing_configured_and_nothing_there(tmp_path: Path) -> None:
    assert study_record(settings_of(), angiogram_in(tmp_path)) == ClinicalRecord()
    assert study_record(ClinicalSettings(), []) == ClinicalRecord()
    assert keys_of(()) == StudyKeys()


def test_two_sources_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two sources have the same name"):
        settings_of({"kind": "dicom_attributes"}, {"kind": "structured_reports", "name": "DICOM attributes"})


def test_states_say_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEPATOCAST_TEST_ABSENT", raising=False)
    settings = settings_of(
        {"kind": "dicom_attributes"},
        {"kind": "file", "name": "registry", "path": str(tmp_path / "absent.csv")},
        {
            "kind": "sql",
            "name": "database",
            "url_environment": "HEPATOCAST_TEST_ABSENT",
            "table": "hcc",
            "patient_column": "mrn",
            "variables": {"age": {"column": "age"}},
        },
        {"kind": "report_texts", "encoder": "absent"},
    )
    states = dict(source_states(settings))
    assert states["DICOM attributes"] is None
    assert "cannot be read" in str(states["registry"])
    assert "HEPATOCAST_TEST_ABSENT is not set" in str(states["database"])
    assert "No text encoder is called 'absent'" in str(states["report texts"])
