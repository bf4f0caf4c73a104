"""Charts and the PDF: valid containers, and nothing in them that names the patient."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import numpy as np
import pydicom

from reporting.survival_numbers import cells, curves_of, survival_numbers_picture
from tests.builders.results import results
from tests.reporting.conftest import Written


def test_charts_are_colour_images_of_a_readable_size(phantom):
    charts = [pydicom.dcmread(path) for path in phantom.paths("charts")]
    assert len(charts) == 4
    for ds in charts:
        assert (ds.Modality, ds.ConversionType, ds.PhotometricInterpretation) == ("OT", "WSD", "RGB")
        assert ds.SyntheticData == "YES"
        assert ds.pixel_array.shape == (1000, 1600, 3)
        assert len(np.unique(ds.pixel_array.reshape(-1, 3), axis=0)) > 50
        assert "DEMONSTRATION MODEL" in ds.ImageComments


def test_charts_differ_when_the_forecast_does(phantom, phantom_mr):
    first = [pydicom.dcmread(p).PixelData for p in phantom.paths("charts")]
    second = [pydicom.dcmread(p).PixelData for p in phantom_mr.paths("charts")]
    assert first[3] != second[3]


def _text(written: Written, needs_judge, tmp_path) -> str:
    ds = pydicom.dcmread(written.paths("pdf")[0])
    assert ds.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert ds.EncapsulatedDocument.startswith(b"%PDF")
    (tmp_path / "report.pdf").write_bytes(ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength])
    program = needs_judge("pdftotext")
    done = subprocess.run(
        [program, "-layout", str(tmp_path / "report.pdf"), "-"], capture_output=True, text=True, check=True
    )
    return " ".join(done.stdout.split())


def test_the_pdf_tells_what_was_found_and_refused_and_names_nobody(phantom, needs_judge, tmp_path):
    text = _text(phantom, needs_judge, tmp_path)
    assert "DEMONSTRATION MODEL" in text
    assert "TACE" in text
    assert "23.1 mo" in text
    assert "The survival model says nothing about HAIC" in text
    assert "cccccccc" in text
    assert "PHANTOM" not in text.upper().replace("PHANTOM WORKS", "")
    assert "PH1" not in text


def test_the_pdf_has_few_pages(phantom, tmp_path, needs_judge):
    program = needs_judge("pdfinfo")
    (tmp_path / "r.pdf").write_bytes(pydicom.dcmread(phantom.paths("pdf")[0]).EncapsulatedDocument)
    info = subprocess.run([program, str(tmp_path / "r.pdf")], capture_output=True, text=True, check=True)
    pages = int(next(line for line in info.stdout.splitlines() if line.startswith("Pages")).split()[1])
    assert 2 <= pages <= 4


def test_survival_in_numbers_tells_limits_and_what_lies_beyond_follow_up():
    tace = dict(curves_of(results().forecasts[0]))
    assert cells(tace["os"]) == (
        "70% (60% to 78%)", "49% (36% to 60%)", "34% (22% to 47%)", "23.1 mo", "21.7 mo", "high",
    )  # fmt: skip
    assert cells(tace["ttp"])[2:5] == ("beyond follow-up", "not reached", "beyond follow-up")
    assert list(curves_of(results().forecasts[1])) == []


def test_what_the_models_did_not_get_is_a_warning_that_people_read():
    found = replace(results(), notes=("No image encoder is active.",))
    assert found.warnings[-1] == "No image encoder is active."
    plain = survival_numbers_picture(results())
    assert not np.array_equal(survival_numbers_picture(found), plain)
