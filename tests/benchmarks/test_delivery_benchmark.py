"""Send, commit and read back against Orthanc: where the time goes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dicom_node.clock import system_clock
from dicom_node.outbox import Courier
from tests.builders.deliveries import NODE, add_revision, delivery_settings, object_states, outbox_of
from tests.builders.dicom_files import ct_series
from tests.builders.orthanc import Orthanc

pytestmark = pytest.mark.benchmark
COUNT = 500
ROWS = 512


def _timed(courier: Courier, spent: dict[str, float]) -> None:
    for name in ("_send", "_commit", "_apply_answers", "_read_back"):
        started = time.perf_counter()
        getattr(courier, name)()
        spent[name] = spent.get(name, 0.0) + time.perf_counter() - started


@pytest.mark.parametrize("by_dicomweb", [False, True])
def test_delivery_to_orthanc(tmp_path: Path, needs_judge, by_dicomweb: bool) -> None:
    objects = ct_series(COUNT, "1.2.826.9", "1.2.826.9.1", rows=ROWS)
    settings = delivery_settings(tmp_path / "data", ())
    nodes = {NODE: ("127.0.0.1", settings.listener.port)}
    with Orthanc(needs_judge("Orthanc"), nodes) as orthanc:
        peer = {
            "name": "pacs",
            "ae_title": orthanc.ae_title,
            "host": "127.0.0.1",
            "port": orthanc.dicom_port,
            **({"dicomweb_url": orthanc.dicomweb_url} if by_dicomweb else {}),
        }
        settings = delivery_settings(tmp_path / "data", (peer,)).model_copy(
            update={"listener": settings.listener}
        )
        add_revision(settings, objects, system_clock, ("pacs",))
        spent: dict[str, float] = {}
        started = time.perf_counter()
        with outbox_of(settings, system_clock) as outbox:
            while object_states(settings) != {"VERIFIED": COUNT}:
                _timed(outbox.couriers[0], spent)
                assert time.perf_counter() - started < 600
        total = time.perf_counter() - started
    parts = ", ".join(f"{name[1:]} {seconds:.1f}" for name, seconds in spent.items())
    print(f"\n{COUNT} objects of {ROWS}x{ROWS}, DICOMweb {by_dicomweb}: {total:.1f} s ({parts})")
