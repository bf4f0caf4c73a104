"""The fast encoder writes the bytes that pydicom writes."""

from __future__ import annotations

import io

import pytest
from pydicom import dcmwrite

from reporting.encoding import FileEncoder
from reporting.outputs import BUILDERS, build
from tests.builders.results import context, results


@pytest.mark.parametrize("kind", [k for k in BUILDERS if k != "virtual_series"])
def test_bytes_are_those_of_pydicom(kind):
    _compare(kind, step=1)


def test_bytes_of_virtual_series_are_those_of_pydicom():
    _compare("virtual_series", step=7)


def _compare(kind: str, step: int) -> None:
    encoder = FileEncoder()
    for k, built in enumerate(build(results(), context(), [kind])):
        encoded = encoder.encode(built.dataset)
        if k % step == 0:
            buffer = io.BytesIO()
            dcmwrite(buffer, built.dataset, enforce_file_format=True)
            assert encoded == buffer.getvalue()


def test_a_changed_value_is_encoded_anew():
    built = next(build(results(), context(), ["segmentation"]))
    encoder = FileEncoder()
    first = encoder.encode(built.dataset)
    built.dataset.SeriesDescription = "another"
    assert encoder.encode(built.dataset) != first


def test_objects_that_were_yielded_are_not_changed_by_later_ones():
    found = [built.dataset for built in build(results(), context(), ["virtual_series"])]
    uids = [ds.SOPInstanceUID for ds in found]
    assert len(set(uids)) == len(uids)
    assert uids == [ds.file_meta.MediaStorageSOPInstanceUID for ds in found]
