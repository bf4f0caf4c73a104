"""The same results and context give the same bytes; another key gives other UIDs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from reporting.outputs import BUILDERS, build, write_objects
from tests.builders.results import context, results


def _digests(folder, key: str = "test") -> dict[str, str]:
    written = write_objects(build(results(), context(key), tuple(BUILDERS)), folder)
    return {w.sop_instance_uid: w.sha256 for w in written}


def test_the_same_input_gives_the_same_bytes(phantom, tmp_path):
    first = {w.sop_instance_uid: w.sha256 for w in phantom.objects}
    assert _digests(tmp_path / "again") == first


def test_another_key_gives_other_uids(phantom, tmp_path):
    first = {w.sop_instance_uid for w in phantom.objects}
    assert not first & set(_digests(tmp_path / "other", "other"))


def test_file_names_hold_nothing_of_the_patient(phantom):
    assert not [
        p
        for p in phantom.all_paths
        if "PH1" in str(p.name) or "PHANTOM" in str(p.relative_to(phantom.folder))
    ]


def test_every_kind_is_there(phantom):
    assert [*dict.fromkeys(w.kind for w in phantom.objects)] == list(BUILDERS)
    kinds = [w.kind for w in phantom.objects]
    assert kinds.count("segmentation") == 7
    assert kinds.count("axes") == kinds.count("report") == kinds.count("pdf") == 1
    assert kinds.count("charts") >= 3


_PRINT_DIGESTS = """
import sys
from pathlib import Path
from reporting.outputs import build, write_objects
from tests.builders.results import context, results
for w in write_objects(build(results(), context()), Path(sys.argv[1])):
    print(w.sop_instance_uid, w.sha256)
"""


def test_another_process_writes_the_same_bytes(phantom, tmp_path):
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _PRINT_DIGESTS, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env={**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": str(root)},
    )
    assert dict(line.split() for line in done.stdout.splitlines()) == {
        w.sop_instance_uid: w.sha256 for w in phantom.objects
    }
