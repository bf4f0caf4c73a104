"""Clinical files: keys, units, refusals that help and never name a patient."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from inference.case import ClinicalRecord, ClinicalValue
from inference.clinical.files import lookup, read_clinical_file
from inference.clinical.records import clinical_record
from inference.clinical.variables import VARIABLES, Kind
from inference.errors import ClinicalError

STUDY = "1.2.826.0.1.3680043.8.498.1"
SECRET = "MRN-SECRET-77"


def csv_file(folder: Path, *lines: str) -> Path:
    path = folder / "clinical.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def json_file(folder: Path, content: object) -> Path:
    path = folder / "clinical.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def one_value(folder: Path, header: str, cell: str) -> ClinicalValue:
    table = read_clinical_file(csv_file(folder, f"study_instance_uid,{header}", f"{STUDY},{cell}"))
    (value,) = lookup(table, STUDY, "", "").values.values()
    return value


# ------------------------------------------------------------------ keys


def test_study_wins_over_patient(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path,
        "study_instance_uid,issuer,patient_id,age",
        f"{STUDY},,,61",
        f",HOSPITAL,{SECRET},62",
    )
    table = read_clinical_file(path)
    assert lookup(table, STUDY, "HOSPITAL", SECRET).values["age"].value == 61
    assert lookup(table, "1.2.3", "HOSPITAL", SECRET).values["age"].value == 62


def test_issuer_must_be_the_same(tmp_path: Path) -> None:
    table = read_clinical_file(csv_file(tmp_path, "issuer,patient_id,age", f"HOSPITAL,{SECRET},62"))
    assert lookup(table, "", "", SECRET) == ClinicalRecord()
    assert lookup(table, "", "OTHER", SECRET) == ClinicalRecord()


def test_empty_id_never_matches(tmp_path: Path) -> None:
    table = read_clinical_file(csv_file(tmp_path, "study_instance_uid,patient_id,age", f"{STUDY},,62"))
    assert lookup(table, "", "", "") == ClinicalRecord()
    assert lookup(table, "", "", "  ") == ClinicalRecord()
    with pytest.raises(ClinicalError, match="row 2: give study_instance_uid or patient_id"):
        read_clinical_file(csv_file(tmp_path, "study_instance_uid,patient_id,age", ",,62"))


def test_same_key_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClinicalError, match="row 3") as refusal:
        read_clinical_file(csv_file(tmp_path, "patient_id,age", f"{SECRET},62", f"{SECRET},63"))
    assert SECRET not in str(refusal.value)


def test_record_of_the_study_in_a_folder(tmp_path: Path) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, "1.2.3.4"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(tmp_path / "a.dcm"), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, "1.2.3.4"
    ds.StudyInstanceUID, ds.PatientID, ds.IssuerOfPatientID = "1.2.3", SECRET, "HOSPITAL"
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    notes = tmp_path / "0-notes.txt"
    notes.write_text("not DICOM")
    table = csv_file(tmp_path, "issuer,patient_id,age", f"HOSPITAL,{SECRET},62")
    files = [notes, tmp_path / "a.dcm"]
    assert clinical_record(table, files).values["age"].value == 62
    assert clinical_record(None, files) == ClinicalRecord()
    assert clinical_record(table, [notes]) == ClinicalRecord()


# ------------------------------------------------------------------ units


@pytest.mark.parametrize(
    ("header", "cell", "value", "unit"),
    [
        ("albumin [g/L]", "38", 38.0, "g/L"),
        ("albumin [g/dL]", "3.8", 38.0, "g/L"),
        ("Bilirubin [mg/dL]", "2.38", 40.7, "umol/L"),
        ("bilirubin [µmol/L]", "17", 17.0, "umol/L"),
        ("creatinine [mg/dl]", "1.0", 88.42, "umol/L"),
        ("afp [IU/mL]", "100", 121.0, "ng/mL"),
        ("platelets [10*3/uL]", "150", 150.0, "10*9/L"),
        ("platelets [/uL]", "150000", 150.0, "10*9/L"),
        ("alt [ukat/L]", "0.5", 30.0, "U/L"),
        ("largest_tumour [cm]", "5.5", 55.0, "mm"),
        ("age", "62", 62.0, "years"),
        ("inr", "1.1", 1.1, ""),
        ("prothrombin_time", "12", 12.0, "s"),
    ],
)
def test_units_are_converted(tmp_path: Path, header: str, cell: str, value: float, unit: str) -> None:
    found = one_value(tmp_path, header, cell)
    assert found.value == pytest.approx(value, abs=0.01)
    assert found.unit == unit


@pytest.mark.parametrize(
    ("header", "cell", "message"),
    [
        ("albumin", "38", r"row 2: 'albumin' has no unit; write it like 'albumin \[g/L\]'"),
        ("albumin [mg/L]", "38", r"unit \[mg/L\] of 'albumin' is not known; use one of g/l, g/dl"),
        ("albumin [g/dL]", "38", r"'albumin' is outside the plausible 10 to 70 g/L; check .* \[g/dL\]"),
        ("albumin [g/L]", "abc", r"'albumin' is not a number"),
        ("albumin [g/L]", "nan", r"'albumin' is outside"),
        ("albumine [g/L]", "38", r"'albumine' is not a known variable; did you mean 'albumin'"),
        ("zzz", "38", r"'zzz' is not a known variable; remove it"),
        ("inr [s]", "1.1", r"'inr' is a pure number; remove \[s\]"),
        ("ecog", "1.5", r"'ecog' must be a whole number"),
        ("ecog", "5", r"'ecog' is outside the plausible 0 to 4"),
        ("cirrhosis", "maybe", r"'cirrhosis' must be yes or no"),
        ("cirrhosis [g/L]", "yes", r"'cirrhosis' has no unit"),
        ("child_pugh_class", "D", r"'child_pugh_class' must be one of A, B, C"),
    ],
)
def test_refusals_name_variable_row_and_fix(tmp_path: Path, header: str, cell: str, message: str) -> None:
    path = csv_file(tmp_path, f"patient_id,{header}", f"{SECRET},{cell}")
    with pytest.raises(ClinicalError, match=message) as refusal:
        read_clinical_file(path)
    assert SECRET not in str(refusal.value)
    assert "row 2" in str(refusal.value)


def test_missing_values_are_missing(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "patient_id,age,albumin [g/L],cirrhosis", "a,,38,", "", "b,50,,no")
    table = read_clinical_file(path)
    assert set(lookup(table, "", "", "a").values) == {"albumin"}
    assert lookup(table, "", "", "b").values["cirrhosis"].value is False


def test_row_of_another_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClinicalError, match="row 2: it has 3 cells instead of 2"):
        read_clinical_file(csv_file(tmp_path, "patient_id,age", f"{SECRET},62,63"))


def test_semicolons_are_named(tmp_path: Path) -> None:
    with pytest.raises(ClinicalError, match="semicolons; save it with commas"):
        read_clinical_file(csv_file(tmp_path, "patient_id;age", "a;62"))


def test_column_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClinicalError, match="column appears twice"):
        read_clinical_file(csv_file(tmp_path, "patient_id,albumin [g/L],albumin [g/dL]", "a,38,3.8"))


# ------------------------------------------------------------------ JSON


def test_json_units_of_the_file_and_of_the_value(tmp_path: Path) -> None:
    content = {
        "units": {"albumin": "g/dL", "bilirubin": "umol/L"},
        "patients": [
            {
                "study_instance_uid": STUDY,
                "albumin": 3.8,
                "bilirubin": {"value": 1, "unit": "mg/dL"},
                "afp": None,
            }
        ],
    }
    record = lookup(read_clinical_file(json_file(tmp_path, content)), STUDY, "", "")
    assert record.values["albumin"].value == pytest.approx(38)
    assert record.values["bilirubin"].value == pytest.approx(17.104)
    assert "afp" not in record.values


def test_json_list_with_words_and_answers(tmp_path: Path) -> None:
    entry = {"patient_id": "7", "sex": "f", "cirrhosis": True, "diabetes": "no", "age": 50}
    record = lookup(read_clinical_file(json_file(tmp_path, [entry])), "", "", "7")
    assert [v.value for v in record.values.values()] == ["F", True, False, 50]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"patients": {}}, "give a list"),
        ({"patient": []}, "may only have"),
        ([1], "entry 1: it is not an object"),
        ([{"patient_id": SECRET, "albumin": {"values": 3}}], "entry 1: 'albumin' needs"),
        ([{"patient_id": SECRET, "albumin": True}], "'albumin' has no unit"),
        ([{"patient_id": SECRET, "age": True}], "'age' is not a number"),
    ],
)
def test_json_refusals(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ClinicalError, match=message) as refusal:
        read_clinical_file(json_file(tmp_path, content))
    assert SECRET not in str(refusal.value)


def test_unreadable_files(tmp_path: Path) -> None:
    broken = tmp_path / "a.json"
    broken.write_text("{")
    with pytest.raises(ClinicalError, match="not valid JSON: line 1"):
        read_clinical_file(broken)
    binary = tmp_path / "a.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ClinicalError, match="UTF-8"):
        read_clinical_file(binary)
    with pytest.raises(ClinicalError, match="neither"):
        read_clinical_file(tmp_path / "a.xlsx")


# ------------------------------------------------------------------ the table of variables


def test_table_of_variables_is_consistent() -> None:
    for name, variable in VARIABLES.items():
        assert name == variable.name
        if variable.kind is Kind.NUMBER:
            assert variable.low < variable.high
            assert bool(variable.unit) == bool(variable.units)
            if variable.unit:
                assert variable.units[variable.unit.lower()] == 1.0
        assert bool(variable.categories) == (variable.kind is Kind.CATEGORY)
    codes = [v.loinc for v in VARIABLES.values() if v.loinc]
    assert len(set(codes)) == len(codes)
    assert all(_luhn(code) for code in codes)


def _luhn(code: str) -> bool:
    """LOINC's check digit: mod 10 of the digits before the hyphen."""
    digits, check = code.split("-")
    total = 0
    for i, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 if i % 2 == 0 else 1)
        total += doubled // 10 + doubled % 10
    return (10 - total % 10) % 10 == int(check)
