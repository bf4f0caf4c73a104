"""Real awkward files from independent senders: each stored, or refused with a status and a reason."""

from __future__ import annotations

import os
import re
import subprocess
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.presentation import build_context
from sqlalchemy import select

from dicom_node.database import instance, open_database, reading
from tests.builders.dicom_files import ct_slice
from tests.builders.listeners import ListenerProcess, listener_config, listener_process

STORED = {
    "693_J2KR.dcm", "CT_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm", "eCT_Supplemental.dcm", "emri_small.dcm", "emri_small_RLE.dcm",
    "liver.dcm", "test-SR.dcm",
}  # fmt: skip
NOT_NEGOTIATED = {
    "ExplVR_BigEnd.dcm", "JPEG-LL.dcm", "JPEG-lossy.dcm", "badVR.dcm", "image_dfl.dcm",
}  # fmt: skip
CUT_SHORT = {"MR_truncated.dcm"}
"""Ends inside its pixel data. DCMTK's senders do not send it; pydicom would mend its length."""
NO_OBJECT = {"nested_priv_SQ.dcm", "no_meta.dcm"}
"""Data sets without SOP class: no sender can make a command of them."""


@pytest.fixture
def listener(tmp_path: Path):
    data_dir = tmp_path / "data"
    with listener_process(listener_config(data_dir), data_dir) as listener:
        yield listener
    log = listener.log.read_text()
    assert "Traceback" not in log
    assert "ended with" not in log


def stored(listener: ListenerProcess) -> set[str]:
    engine = open_database(listener.data_dir)
    with reading(engine) as connection:
        rows = connection.execute(select(instance.c.sop_instance_uid, instance.c.path)).all()
    engine.dispose()
    for uid, path in rows:
        assert dcmread(listener.data_dir / path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID == uid
    return {uid for uid, _ in rows}


def data_set_of(file: bytes) -> bytes:
    """Return the bytes after the file meta information."""
    return file[144 + int.from_bytes(file[140:144], "little") :]


def send_raw(path: Path, port: int) -> int | None:
    """Send a file's data set untouched; return the status, or None if it was not negotiated."""
    header = dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID"], force=True)
    syntax = header.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
    contexts = [build_context(header.SOPClassUID, syntax)]
    association = AE(ae_title="SENDER").associate("127.0.0.1", port, contexts=contexts, ae_title="HEPATOCAST")
    if not association.accepted_contexts:
        association.abort()
        return None
    send_message = association.dimse.send_msg

    def with_bytes_of_file(primitive, context_id):
        primitive.DataSet = BytesIO(data_set_of(path.read_bytes()))
        return send_message(primitive, context_id)

    association.dimse.send_msg = with_bytes_of_file
    try:
        return int(association.send_c_store(dcmread(path)).Status)
    finally:
        association.release()


def test_each_file_of_the_corpus_has_a_known_end(needs_data, listener: ListenerProcess) -> None:
    corpus = needs_data("corpus")
    files = {path.name: path for path in corpus.glob("*.dcm")}
    assert set(files) == STORED | NOT_NEGOTIATED | CUT_SHORT | NO_OBJECT
    statuses = {n: send_raw(files[n], listener.port) for n in sorted(STORED | NOT_NEGOTIATED | CUT_SHORT)}
    assert {n for n, s in statuses.items() if s == 0} == STORED
    assert {n: s for n, s in statuses.items() if s} == dict.fromkeys(CUT_SHORT, 0xC000)
    assert {n for n, s in statuses.items() if s is None} == NOT_NEGOTIATED
    assert stored(listener) == {str(dcmread(files[n]).SOPInstanceUID) for n in STORED}
    log = listener.log.read_text()
    assert "ends inside its pixel data" in log
    for name in NOT_NEGOTIATED:
        sop_class = dcmread(files[name], stop_before_pixels=True).SOPClassUID.name
        assert f"SOP class not supported: {sop_class}" in log


@pytest.mark.parametrize("program", ["dcmsend", "storescu"])
def test_the_corpus_as_dcmtk_sends_it(
    needs_data, needs_judge, listener: ListenerProcess, program: str
) -> None:
    corpus = needs_data("corpus")
    names = sorted(STORED)
    environment = {**os.environ, "TCP_NODELAY": "1"}
    statuses = {}
    for name in [*names, *sorted(NOT_NEGOTIATED | CUT_SHORT | NO_OBJECT)]:
        command = [needs_judge(program), "-v", "-aet", "SENDER", "-aec", "HEPATOCAST"]
        command += ["--no-uid-checks"] if program == "dcmsend" else ["-R", *proposal(corpus / name)]
        command += ["127.0.0.1", str(listener.port), str(corpus / name)]
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=60
        )
        output = result.stdout + result.stderr
        statuses[name] = bool(re.search(r"\(?(Success|0x0000)", output)) and result.returncode == 0
    assert {n for n, ok in statuses.items() if ok} == STORED
    assert stored(listener) == {str(dcmread(corpus / n).SOPInstanceUID) for n in STORED | CUT_SHORT}


PROPOSALS = {
    "1.2.840.10008.1.2.5": "-xr",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.2": "-xb",
}
"""Option of storescu by transfer syntax."""


def proposal(path: Path) -> list[str]:
    syntax = dcmread(path, stop_before_pixels=True, force=True).file_meta.get("TransferSyntaxUID")
    return [PROPOSALS[syntax]] if syntax in PROPOSALS else []


def test_the_real_ct_and_its_segmentation(needs_data, needs_judge, listener: ListenerProcess) -> None:
    folder = needs_data("ircad17")
    command = [needs_judge("dcmsend"), "-aet", "DCMSEND", "-aec", "HEPATOCAST", "+sd", "+r"]
    command += ["127.0.0.1", str(listener.port), str(folder / "ct"), str(folder / "seg.dcm")]
    environment = {**os.environ, "TCP_NODELAY": "1"}
    subprocess.run(command, check=True, env=environment, timeout=120, capture_output=True)
    assert len(stored(listener)) == len(list((folder / "ct").iterdir())) + 1


def test_storescu_sees_an_error_comment(needs_judge, listener: ListenerProcess, tmp_path: Path) -> None:
    ds = ct_slice()
    del ds.StudyInstanceUID
    ds.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    command = [needs_judge("storescu"), "-d", "-aet", "STORESCU", "-aec", "HEPATOCAST"]
    command += ["127.0.0.1", str(listener.port), str(tmp_path / "x.dcm")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "no StudyInstanceUID" in result.stdout + result.stderr
