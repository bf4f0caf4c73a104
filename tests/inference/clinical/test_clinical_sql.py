"""A table of a database as a source, on SQLite and PostgreSQL: keys, units, rights, silence on patients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from inference.case import ClinicalRecord
from inference.clinical.sources.sql import SqlRecords
from inference.clinical.sources.study import StudyKeys
from inference.clinical_settings import SqlSettings
from inference.errors import ClinicalError, ClinicalSourceAway

STUDY = "1.2.826.0.1.3680043.8.498.1"
SECRET = "MRN-SECRET-77"
QUOTE = "O'Brien; DROP TABLE hcc"
VARIABLE = "HEPATOCAST_TEST_CLINICAL_URL"


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[sa.Engine]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'clinical.db'}"
    else:
        url = request.getfixturevalue("postgresql_server")
    monkeypatch.setenv(VARIABLE, url)
    made = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with made.begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS hcc"))
        connection.execute(
            sa.text(
                "CREATE TABLE hcc (study VARCHAR(64), issuer VARCHAR(64), mrn VARCHAR(64), "
                "alb NUMERIC(5, 2), bili REAL, cirrh BOOLEAN, cp VARCHAR(4), ecog_ps INTEGER)"
            )
        )
    yield made
    made.dispose()


def insert(engine: sa.Engine, **cells: object) -> None:
    names = ", ".join(cells)
    places = ", ".join(f":{name}" for name in cells)
    with engine.begin() as connection:
        connection.execute(sa.text(f"INSERT INTO hcc ({names}) VALUES ({places})"), cells)


def settings(**changes: object) -> SqlSettings:
    variables = {
        "albumin": {"column": "alb", "unit": "g/dL"},
        "bilirubin": {"column": "bili", "unit": "umol/L"},
        "cirrhosis": {"column": "cirrh"},
        "child_pugh_class": {"column": "cp"},
        "ecog": {"column": "ecog_ps"},
    }
    content = {
        "kind": "sql",
        "name": "registry",
        "url_environment": VARIABLE,
        "table": "hcc",
        "study_column": "study",
        "patient_column": "mrn",
        "issuer_column": "issuer",
        "variables": variables,
        **changes,
    }
    return SqlSettings.model_validate({k: v for k, v in content.items() if v is not None})


def of_patient(patient_id: str, issuer: str = "") -> StudyKeys:
    return StudyKeys(STUDY, issuer, patient_id)


def plain(record: ClinicalRecord) -> dict[str, object]:
    return {name: value.value for name, value in record.values.items()}


def test_values_of_all_kinds_and_their_source(engine: sa.Engine) -> None:
    insert(engine, study=STUDY, alb=3.8, bili=17, cirrh=True, cp="A", ecog_ps=1)
    record = SqlRecords(settings()).record_for(StudyKeys(STUDY))
    expected = {"albumin": 38.0, "bilirubin": 17.0, "cirrhosis": True, "child_pugh_class": "A", "ecog": 1.0}
    assert plain(record) == pytest.approx(expected)
    assert {value.source for value in record.values.values()} == {"registry"}
    assert record.values["albumin"].unit == "g/L"


def test_null_and_empty_text_are_missing(engine: sa.Engine) -> None:
    insert(engine, study=STUDY, alb=None, cp=" ", ecog_ps=0)
    assert plain(SqlRecords(settings()).record_for(StudyKeys(STUDY))) == {"ecog": 0.0}


def test_row_of_the_study_wins_and_belongs_to_it_only(engine: sa.Engine) -> None:
    insert(engine, study=STUDY, mrn=SECRET, ecog_ps=1)
    insert(engine, mrn=SECRET, ecog_ps=2)
    source = SqlRecords(settings())
    assert plain(source.record_for(of_patient(SECRET))) == {"ecog": 1.0}
    assert plain(source.record_for(StudyKeys("1.2.3", "", SECRET))) == {"ecog": 2.0}


def test_issuer_must_be_the_same(engine: sa.Engine) -> None:
    insert(engine, mrn=SECRET, issuer="HOSPITAL", ecog_ps=1)
    source = SqlRecords(settings())
    assert plain(source.record_for(of_patient(SECRET, "HOSPITAL"))) == {"ecog": 1.0}
    assert plain(source.record_for(of_patient(SECRET))) == {}
    assert plain(source.record_for(of_patient(SECRET, "OTHER"))) == {}
    fixed = SqlRecords(settings(issuer_column=None, issuer="HOSPITAL"))
    assert plain(fixed.record_for(of_patient(SECRET, "HOSPITAL"))) == {"ecog": 1.0}
    assert plain(fixed.record_for(of_patient(SECRET))) == {}


def test_empty_key_never_matches(engine: sa.Engine) -> None:
    insert(engine, study="", mrn="", issuer="", ecog_ps=1)
    insert(engine, ecog_ps=2)
    assert plain(SqlRecords(settings()).record_for(StudyKeys())) == {}
    assert plain(SqlRecords(settings()).record_for(of_patient(""))) == {}


def test_keys_are_parameters_not_text(engine: sa.Engine) -> None:
    insert(engine, mrn=QUOTE, ecog_ps=1)
    source = SqlRecords(settings())
    assert plain(source.record_for(of_patient(QUOTE))) == {"ecog": 1.0}
    assert plain(source.record_for(of_patient("' OR '1'='1"))) == {}


def test_refusals_name_source_and_variable_never_the_patient(engine: sa.Engine) -> None:
    insert(engine, mrn=SECRET, alb=38)
    with pytest.raises(ClinicalError, match="Source 'registry': 'albumin' is outside") as refusal:
        SqlRecords(settings()).record_for(of_patient(SECRET))
    assert SECRET not in str(refusal.value)
    insert(engine, mrn=SECRET, alb=3.8)
    with pytest.raises(ClinicalError, match="two rows have the key") as refusal:
        SqlRecords(settings()).record_for(of_patient(SECRET))
    assert SECRET not in str(refusal.value)


def test_nothing_can_be_written(engine: sa.Engine) -> None:
    source = SqlRecords(settings())
    with pytest.raises(ClinicalSourceAway), source._connected() as connection:
        connection.execute(sa.text("INSERT INTO hcc (mrn) VALUES ('x')"))
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM hcc")).scalar() == 0


def test_absent_table_or_column_is_said_without_the_key(engine: sa.Engine) -> None:
    for changed in (settings(table="absent"), settings(patient_column="absent")):
        with pytest.raises(ClinicalSourceAway, match="has no such table or columns") as away:
            SqlRecords(changed).probe()
        assert away.value.__cause__ is None
    SqlRecords(settings()).probe()


def test_number_as_key_does_not_leak(postgresql_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL does not compare numbers with text, and its errors may repeat the text; ours do not."""
    monkeypatch.setenv(VARIABLE, postgresql_server)
    made = sa.create_engine(postgresql_server, poolclass=sa.pool.NullPool)
    with made.begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS numbered"))
        connection.execute(sa.text("CREATE TABLE numbered (mrn INTEGER, ecog_ps INTEGER)"))
    only = {"ecog": {"column": "ecog_ps"}}
    source = SqlRecords(
        settings(
            table="numbered", patient_column="mrn", study_column=None, issuer_column=None, variables=only
        )
    )
    source.probe()
    with pytest.raises(ClinicalSourceAway) as away:
        source.record_for(of_patient(SECRET))
    assert SECRET not in str(away.value)
    assert away.value.__suppress_context__


def test_source_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ClinicalSourceAway, match=f"{VARIABLE} is not set"):
        SqlRecords(settings())
    monkeypatch.setenv(VARIABLE, f"sqlite:///{tmp_path / 'absent.db'}")
    with pytest.raises(ClinicalSourceAway, match="no such SQLite file"):
        SqlRecords(settings())
    assert not (tmp_path / "absent.db").exists()
    for wrong in ("nonsense", "nodialect://host/db"):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(ClinicalSourceAway, match="is wrong, or its driver is not installed"):
            SqlRecords(settings())
    monkeypatch.setenv(VARIABLE, f"postgresql+psycopg://nobody@/none?host={tmp_path}")
    with pytest.raises(ClinicalSourceAway, match="does not answer"):
        SqlRecords(settings()).record_for(of_patient(SECRET))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table": "hcc; DROP TABLE hcc"}, "letters, digits and underscores"),
        ({"study_column": None, "patient_column": None}, "give study_column or patient_column"),
        ({"variables": {"ecog": {"column": "a b"}}}, "letters, digits and underscores"),
        ({"variables": {}}, "at least 1"),
    ],
)
def test_settings_are_checked(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**changes)


def test_unknown_variable_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "sqlite://")
    with pytest.raises(ClinicalError, match="did you mean 'albumin'"):
        SqlRecords(settings(variables={"albumine": {"column": "alb"}}))
