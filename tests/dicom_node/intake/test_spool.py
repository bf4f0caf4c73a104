"""The spool on its own: file format, paths, room, sweeping, damage."""

from __future__ import annotations

import errno
import hashlib
import subprocess
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset

from dicom_node.errors import ConfigurationError, InvalidUid, OutOfRoom, UnreadableObject
from dicom_node.intake.spool import Spool, file_meta, relative_path
from tests.builders.dicom_files import CT, ct_slice

EXPLICIT = "1.2.840.10008.1.2.1"


def encoded(ds) -> bytes:
    buffer = BytesIO()
    file = DicomFileLike(buffer)
    file.is_little_endian, file.is_implicit_VR = True, False
    write_dataset(file, ds)
    return buffer.getvalue()


@pytest.fixture
def spool(tmp_path: Path):
    spool = Spool(tmp_path, minimum_free_bytes=0)
    with spool.held():
        yield spool


def stored(spool: Spool, ds) -> str:
    data = encoded(ds)
    path = relative_path(ds.StudyInstanceUID, ds.SOPInstanceUID, hashlib.sha256(data).hexdigest())
    spool.write(path, file_meta(CT, ds.SOPInstanceUID, EXPLICIT, "SENDER"), memoryview(data))
    return path


def test_a_file_of_the_spool_is_a_dicom_file(spool: Spool, needs_judge) -> None:
    ds = ct_slice(rows=16)
    path = spool.data_dir / stored(spool, ds)
    again = dcmread(path)
    assert again.file_meta.TransferSyntaxUID == EXPLICIT
    assert again.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    assert again.file_meta.SourceApplicationEntityTitle == "SENDER"
    assert again == ds
    result = subprocess.run([needs_judge("dcmftest"), str(path)], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("yes")


def test_the_group_length_counts_the_meta_information(spool: Spool) -> None:
    for uid in ("1.2.3", "1.2.34"):  # odd and even lengths
        meta = file_meta(uid, uid, EXPLICIT, "ODD")
        again = dcmread(BytesIO(meta), force=False)
        assert again.file_meta.FileMetaInformationGroupLength == len(meta) - 144
        assert again.file_meta.MediaStorageSOPClassUID == uid


@pytest.mark.parametrize(
    "uid",
    ["../../etc/x", "1.2/3", "1..2", "1.02", ".1", "1.", "", "1.2\x003", "1." + "2" * 63, "a.b", "1.2\n"],
)
def test_a_path_is_made_of_valid_uids_only(uid: str) -> None:
    with pytest.raises(InvalidUid):
        relative_path("1.2.3", uid, "0" * 64)
    with pytest.raises(InvalidUid):
        relative_path(uid, "1.2.3", "0" * 64)


def test_below_the_minimum_of_free_bytes_nothing_is_written(tmp_path: Path) -> None:
    spool = Spool(tmp_path, minimum_free_bytes=1000, free=lambda _folder: 1100)
    with spool.held():
        assert spool.has_room()
        with pytest.raises(OutOfRoom):
            stored(spool, ct_slice(rows=16))
        assert not list(spool.incoming.iterdir())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_is_out_of_room_and_leaves_nothing(spool: Spool, number: int, monkeypatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutOfRoom):
        stored(spool, ct_slice(rows=16))
    assert not list(spool.incoming.iterdir())
    assert not list(spool.studies())


def test_temporary_files_are_swept(spool: Spool) -> None:
    (spool.incoming / "7.part").write_bytes(b"half")
    assert spool.sweep() == 1
    assert not list(spool.incoming.iterdir())


def test_changed_bytes_are_noticed(spool: Spool) -> None:
    path = stored(spool, ct_slice(rows=16))
    with spool.opened(path) as (file, data_set):
        assert file.calling_ae_title == "SENDER"
        assert file.transfer_syntax_uid == EXPLICIT
        assert hashlib.sha256(data_set.read()).hexdigest() == file.sha256
    whole = (spool.data_dir / path).read_bytes()
    for damaged in (whole[:-1], whole[:100], whole[:150], whole[:-1] + b"\xff", b""):
        (spool.data_dir / path).write_bytes(damaged)
        with pytest.raises(UnreadableObject), spool.opened(path):
            pass


def test_one_listener_for_one_folder(spool: Spool) -> None:
    with pytest.raises(ConfigurationError, match="another listener"), Spool(spool.data_dir, 0).held():
        pass
