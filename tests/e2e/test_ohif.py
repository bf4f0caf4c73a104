"""OHIF shows the virtual series and loads the axes report as bidirectional measurements."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from inference.results import SeriesVolume, StudyResults
from reporting.common import set_file_meta
from reporting.encoding import FileEncoder
from reporting.outputs import build
from tests.builders import viewer
from tests.builders.orthanc import Orthanc
from tests.builders.results import context, results

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

DRIVER = Path(__file__).with_name("ohif_driver.cjs")


def _baseline_slice(volume: SeriesVolume, index: int) -> Dataset:
    ds = Dataset()
    ds.update({e.tag: e for e in volume.headers[index]})
    kind = "<i2" if ds.PixelRepresentation else "<u2"
    ds.add_new("PixelData", "OW", volume.stored[index].astype(np.dtype(kind)).tobytes())
    set_file_meta(ds)
    return ds


def _store(pacs: Orthanc, found: StudyResults) -> None:
    """Store baseline and results; nothing of what is stored may be refused."""
    encoder = FileEncoder()
    baseline = (_baseline_slice(v, k) for v in found.baseline.volumes for k in range(len(v.headers)))
    made = (o.dataset for o in build(found, context()))
    for dataset in (*baseline, *made):
        request = urllib.request.Request(pacs.url + "/instances", data=encoder.encode(dataset), method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.loads(answer.read())["Status"] == "Success"


@pytest.fixture(scope="module")
def pages(needs_judge) -> Path:
    needs_judge("npm")
    needs_judge("node")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hepatocast-tests"
    try:
        return viewer.install(cache)
    except subprocess.SubprocessError:
        pytest.skip("the viewer cannot be fetched from npm")


def test_ohif_loads_the_axes_as_bidirectional_measurements(pages, needs_judge, tmp_path):
    found = results()
    study = found.baseline.study_instance_uid
    with Orthanc(needs_judge("Orthanc")) as pacs, viewer.served(pages, pacs.url) as url:
        _store(pacs, found)
        done = subprocess.run(
            [
                *(needs_judge("node"), str(DRIVER), str(pages.parents[2] / "node_modules")),
                *(needs_judge("chromium"), url, study, str(tmp_path)),
                *("AI VIRTUAL +1 mo TACE", "AI VIRTUAL tumour axes"),
            ],
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    page = json.loads(done.stdout)
    shown = "\n".join(page["thumbnails"])
    for expected in ("AI VIRTUAL +1 mo TACE", "AI VIRTUAL forecast charts", "AI VIRTUAL forecast (PDF)"):
        assert expected in shown
    assert page["clicked"]
    moments = [found.baseline_lesions, *(p.lesions for f in found.forecasts for p in f.time_points)]
    measured = sum(m.long_axis is not None for lesions in moments for m in lesions)
    assert f"Measurements ({measured})" in page["text"]
    baseline = found.baseline_lesions[0]
    assert baseline.long_axis is not None
    assert baseline.short_axis is not None
    lengths = {float(v) for v in re.findall(r"(\d+(?:\.\d+)?)\s*mm", page["text"])}
    for axis in (baseline.long_axis, baseline.short_axis):
        assert any(abs(v - axis.length_mm) < 0.2 for v in lengths), (axis.length_mm, lengths)
    assert not [e for e in page["errors"] if "ResizeObserver" not in e]
