"""The demonstration's small PACS, asked by DCMTK."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pydicom

from dicom_node.demo.peer import small_pacs
from tests.builders.dicom_files import ct_series


def _write(folder: Path, count: int = 3) -> Path:
    folder.mkdir()
    for number, ds in enumerate(ct_series(count, "1.2.826.1", "1.2.826.1.1", rows=16)):
        ds.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder


def test_it_stores_answers_queries_and_returns_by_get(tmp_path: Path, needs_judge) -> None:
    source = _write(tmp_path / "source")
    target = tmp_path / "target"
    target.mkdir()
    with small_pacs(tmp_path / "pacs", "SMALL", {}) as port:
        peer = ["127.0.0.1", str(port), "-aec", "SMALL"]
        subprocess.run([needs_judge("dcmsend"), *peer, "+sd", str(source)], check=True, capture_output=True)
        found = subprocess.run(
            [
                needs_judge("findscu"),
                *peer,
                "-S",
                "-k",
                "QueryRetrieveLevel=SERIES",
                "-k",
                "StudyInstanceUID=1.2.826.1",
                "-k",
                "SeriesInstanceUID",
                "-k",
                "NumberOfSeriesRelatedInstances",
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        answer = found.stdout + found.stderr
        assert "1.2.826.1.1" in answer
        assert "[3 " in answer or "[3]" in answer
        keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.826.1"]
        subprocess.run([needs_judge("getscu"), *peer, "-S", *keys, "-od", str(target)], check=True)
    sent = {str(pydicom.dcmread(p).SOPInstanceUID) for p in source.iterdir()}
    assert {str(pydicom.dcmread(p).SOPInstanceUID) for p in target.iterdir()} == sent
