"""Odd DICOM files: each is read and chosen from, or refused with a reason; nothing else is raised."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from inference.errors import RejectedInput
from inference.imaging.pixels import stored_values
from inference.imaging.reading import read_case
from inference.stages.load import load
from inference.stages.selection import select


def outcome(path: Path) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of the very defects these files have
            load(select(read_case(path)))
    except RejectedInput as refusal:
        return str(refusal)
    return ""


def test_every_file_of_the_corpus_is_loaded_or_refused_with_a_reason(needs_data):
    files = sorted(p for p in needs_data("corpus").rglob("*") if p.is_file())
    outcomes = {p.name: outcome(p) for p in files}
    assert len(outcomes) > 10
    assert all(text for text in outcomes.values()), "one slice can be no liver"


@pytest.mark.parametrize("kept", [0, 100, 132, 200, 1000, 2000])
def test_a_file_cut_anywhere_is_refused_or_left_out(needs_data, tmp_path, kept):
    source = next(needs_data("ircad17/ct").iterdir())
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(source.read_bytes()[:kept])
    assert outcome(cut)


def test_lossless_transfer_syntaxes_give_the_same_stored_values(needs_data):
    folder = needs_data("corpus")
    names = ("MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm")
    first, *others = [stored_values(next(folder.rglob(name))) for name in names]
    assert first.std() > 0
    assert all(np.array_equal(first, other) for other in others)
