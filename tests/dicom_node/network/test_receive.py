"""Receiving over real associations on loopback: what is kept, and with which status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import AE, build_role
from pynetdicom.presentation import build_context
from sqlalchemy import select

from dicom_node.database import commitment_result, inbound_commitment, instance, open_database, reading
from dicom_node.network.contexts import (
    STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    VERIFICATION,
)
from dicom_node.network.scp import listening
from tests.builders.dicom_files import (
    COMPREHENSIVE_SR,
    CT,
    SEG,
    XA,
    Called,
    ct_series,
    ct_slice,
    mr_slice,
    plain_object,
    send,
)
from tests.builders.listeners import listener_settings

PACS = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}


class Running:
    """A listener in this process, its database, and how much of the disk is free."""

    def __init__(self, server, data_dir: Path) -> None:
        self.server = server
        self.data_dir = data_dir
        self.free = 10**12
        self.engine = open_database(data_dir)

    @property
    def to(self) -> Called:
        return Called(self.server.port)

    def rows(self, table=instance):
        with reading(self.engine) as connection:
            return connection.execute(select(table)).all()


@pytest.fixture
def node(tmp_path: Path, clock) -> Iterator[Running]:
    settings = listener_settings(tmp_path / "data", peers=(PACS,), minimum_free_bytes=10**6)
    running: list[Running] = []
    with listening(settings, clock, lambda _folder: running[0].free if running else 10**12) as server:
        running.append(Running(server, settings.data_dir))
        yield running[0]
    running[0].engine.dispose()


def stored_file(node: Running, ds: Dataset) -> Dataset:
    (row,) = [r for r in node.rows() if r.sop_instance_uid == ds.SOPInstanceUID]
    return dcmread(node.data_dir / row.path)


def test_every_kind_of_input_is_kept_as_it_was_sent(node: Running) -> None:
    sent = [
        ct_slice("1.2.1", "1.2.1.1"),
        mr_slice("1.2.1", "1.2.1.2"),
        plain_object(SEG, "1.2.1", "1.2.1.3"),
        plain_object(XA, "1.2.1", "1.2.1.4"),
        plain_object(COMPREHENSIVE_SR, "1.2.1", "1.2.1.5"),
    ]
    assert send(sent, node.to) == [0] * 5
    assert {r.modality for r in node.rows()} == {"CT", "MR", "SEG", "XA", "SR"}
    for ds in sent:
        assert stored_file(node, ds) == ds


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
    ids=lambda uid: uid.keyword,
)
def test_transfer_syntaxes_are_kept(node: Running, syntax) -> None:
    ds = ct_slice()
    if syntax.is_compressed and not syntax.is_deflated:
        ds.compress(syntax, generate_instance_uid=False)
    else:
        source = BytesIO()
        ds.file_meta.TransferSyntaxUID = syntax
        ds.save_as(source, enforce_file_format=True)
        source.seek(0)
        ds = dcmread(source)
    assert send([ds], node.to) == [0]
    (row,) = node.rows()
    assert row.transfer_syntax_uid == syntax
    assert stored_file(node, ds) == ds
    assert (stored_file(node, ds).pixel_array == ds.pixel_array).all()


def test_an_echo_is_answered(node: Running) -> None:
    association = AE(ae_title="SENDER").associate(
        "127.0.0.1", node.to.port, contexts=[build_context(VERIFICATION)], ae_title="HEPATOCAST"
    )
    assert association.send_c_echo().Status == 0
    association.release()


@pytest.mark.parametrize("change", [{"called": "OTHER"}, {"calling": "STRANGER"}])
def test_unknown_ae_titles_are_rejected(node: Running, change: dict[str, str], caplog) -> None:
    with pytest.raises(ConnectionError, match="rejected"):
        send([ct_slice()], replace(node.to, **change))
    assert "association rejected" in caplog.text
    assert node.rows() == []


def test_the_ae_titles_of_peers_may_send(node: Running) -> None:
    assert send([ct_slice()], replace(node.to, calling="PACS")) == [0]


def test_with_no_title_configured_nobody_may_associate(tmp_path: Path) -> None:
    settings = listener_settings(tmp_path / "data", allowed_calling_ae_titles=[])
    with listening(settings) as server, pytest.raises(ConnectionError, match="rejected"):
        send([ct_slice()], Called(server.port))


def test_any_title_may_associate_where_the_site_says_so(tmp_path: Path) -> None:
    settings = listener_settings(
        tmp_path / "data", allowed_calling_ae_titles=[], allow_any_calling_ae_title=True
    )
    with listening(settings) as server:
        assert send([ct_slice()], Called(server.port, calling="WHOEVER")) == [0]


def test_the_same_again_is_success_and_nothing_more(node: Running) -> None:
    series = ct_series(3)
    assert send(series, node.to) == [0, 0, 0]
    before = node.rows()
    assert send(series, node.to) == [0, 0, 0]
    assert node.rows() == before


def test_other_bytes_under_the_same_uid_are_both_kept(node: Running) -> None:
    first, second = ct_slice(), ct_slice()
    second.StudyDescription = "sent again after correction"
    assert send([first, second], node.to) == [0, 0]
    rows = node.rows()
    assert [r.conflicts for r in rows] == [True, True]
    kept = {dcmread(node.data_dir / r.path).get("StudyDescription", "") for r in rows}
    assert kept == {"", "sent again after correction"}


def send_as(node: Running, ds: Dataset, command: Dataset) -> Dataset:
    """Send `ds` under the SOP class and instance UIDs of `command`; return the response."""
    ae = AE(ae_title="SENDER")
    contexts = [build_context(CT)]
    association = ae.associate("127.0.0.1", node.to.port, contexts=contexts, ae_title="HEPATOCAST")
    request_from = association.dimse.send_msg

    def renamed(primitive, context_id):
        primitive.AffectedSOPInstanceUID = command.SOPInstanceUID
        return request_from(primitive, context_id)

    association.dimse.send_msg = renamed
    try:
        return association.send_c_store(ds)
    finally:
        association.release()


def test_a_data_set_that_is_not_its_commands_is_refused(node: Running) -> None:
    command = ct_slice()
    command.SOPInstanceUID = "1.2.3"
    answer = send_as(node, ct_slice(), command)
    assert answer.Status == 0xA900
    assert "differ" in answer.ErrorComment
    assert node.rows() == []


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_an_object_without_study_or_series_is_refused(node: Running, keyword: str) -> None:
    ds = ct_slice()
    del ds[keyword]
    assert send([ds, ct_slice(number=2)], node.to) == [0xC000, 0]
    assert len(node.rows()) == 1


def test_nothing_leaves_the_spool_by_a_study_uid(node: Running) -> None:
    ds = ct_slice()
    ds["StudyInstanceUID"]._value = "../../../evil"
    assert send([ds], node.to) == [0xC000]
    assert not list(node.data_dir.rglob("*evil*"))
    assert not list(node.data_dir.parent.rglob("*evil*"))


def test_no_room_is_out_of_resources_and_then_no_association(node: Running, caplog) -> None:
    ae = AE(ae_title="SENDER")
    association = ae.associate("127.0.0.1", node.to.port, contexts=[build_context(CT)], ae_title="HEPATOCAST")
    node.free = 10**6 + 100
    answer = association.send_c_store(ct_slice())
    assert (answer.Status, "minimum_free_bytes" in answer.ErrorComment) == (0xA700, True)
    node.free = 10**12
    assert association.send_c_store(ct_slice()).Status == 0
    association.release()
    node.free = 10
    with pytest.raises(ConnectionError, match="rejected"):
        send([ct_slice()], node.to)
    assert "minimum_free_bytes" in caplog.text


def test_an_index_that_cannot_be_written_is_out_of_resources(node: Running) -> None:
    with node.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE instance RENAME TO away")
    assert send([ct_slice()], node.to) == [0xA700]
    with node.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO instance")
    assert send([ct_slice()], node.to) == [0]


def test_our_own_objects_are_known_as_such(node: Running) -> None:
    ds = ct_slice()
    ds.Manufacturer = "Hepatocast"
    send([ds, ct_slice(number=2)], node.to)
    assert [r.made_here for r in node.rows()] == [True, False]


def test_no_log_names_the_patient(node: Running, caplog) -> None:
    caplog.set_level("DEBUG", "dicom_node")
    bad = ct_slice(number=2)
    del bad.StudyInstanceUID
    send([ct_slice(), bad], node.to)
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("dicom_node")]
    assert ours
    assert not [m for m in ours if "Test^Patient" in m or "T1" in m]
    assert not [p for p in node.data_dir.rglob("*") if "Test" in p.name]


# --- storage commitment -------------------------------------------------------------------------


def _request(transaction: str = "1.2.77", instances: tuple[str, ...] = ("1.2.3.4",)) -> Dataset:
    information = Dataset()
    information.TransactionUID = transaction
    information.ReferencedSOPSequence = []
    for uid in instances:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, uid
        information.ReferencedSOPSequence.append(item)
    return information


def _ask(node: Running, information: Dataset, calling: str = "PACS", action: int = 1) -> int:
    association = AE(ae_title=calling).associate(
        "127.0.0.1", node.to.port, contexts=[build_context(STORAGE_COMMITMENT)], ae_title="HEPATOCAST"
    )
    status, _ = association.send_n_action(
        information, action, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
    )
    association.release()
    return int(status.Status)


def test_a_request_to_commit_becomes_a_row(node: Running, clock) -> None:
    assert _ask(node, _request()) == 0
    assert _ask(node, _request()) == 0  # repeated after a lost answer
    (row,) = node.rows(inbound_commitment)
    assert (row.transaction_uid, row.calling_ae_title, row.requested_at) == ("1.2.77", "PACS", clock())
    assert json.loads(row.references_json) == [[CT, "1.2.3.4"]]
    assert not row.answered


def test_requests_to_commit_that_cannot_be_answered_are_refused(node: Running) -> None:
    assert _ask(node, _request(), calling="SENDER") == 0x0124
    assert _ask(node, _request(), action=2) == 0x0123
    nameless = _request()
    del nameless.TransactionUID
    assert _ask(node, nameless) == 0x0115
    assert _ask(node, _request()) == 0
    assert _ask(node, _request(instances=("1.2.9",))) == 0x0110
    assert len(node.rows(inbound_commitment)) == 1


def test_the_answer_of_a_pacs_becomes_a_row(node: Running, clock) -> None:
    information = _request("1.2.88", ("1.2.3.4", "1.2.3.5"))
    failed = Dataset()
    failed.ReferencedSOPClassUID, failed.ReferencedSOPInstanceUID = CT, "1.2.3.6"
    failed.FailureReason = 0x0112
    information.FailedSOPSequence = [failed]
    association = AE(ae_title="PACS").associate(
        "127.0.0.1",
        node.to.port,
        contexts=[build_context(STORAGE_COMMITMENT)],
        ae_title="HEPATOCAST",
        ext_neg=[build_role(STORAGE_COMMITMENT, scp_role=True)],
    )
    assert association.accepted_contexts[0].as_scp
    status, _ = association.send_n_event_report(
        information, 2, STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
    )
    association.release()
    assert status.Status == 0
    (row,) = node.rows(commitment_result)
    assert (row.transaction_uid, row.received_at, row.applied) == ("1.2.88", clock(), False)
    assert json.loads(row.committed) == ["1.2.3.4", "1.2.3.5"]
    assert json.loads(row.failed) == {"1.2.3.6": 0x0112}
