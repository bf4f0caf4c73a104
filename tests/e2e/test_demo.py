"""The demonstration leaves a page with every picture and number, whatever plays the PACS."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dicom_node.cli.main import DONE, invoke
from dicom_node.demo import loop

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def _check_page(out: Path) -> str:
    html = (out / "index.html").read_text()
    for words in ("DEMONSTRATION MODEL", "Response", "Survival", "Structured reports", "TACE"):
        assert words in html
    linked = set(re.findall(r'"(pictures/[^"]+)"', html))
    assert len(linked) > 10
    assert all((out / name).is_file() for name in linked)
    assert html.count('src="data:image/png') == 6
    assert (out / "report.pdf").read_bytes().startswith(b"%PDF")
    result = json.loads((out / "result.json").read_text())
    assert result["comparison"]["pairs"]
    assert all("survival" in regimen["os"] for regimen in result["regimens"])
    return html


def test_without_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["demo", "--out", str(tmp_path), "--no-network"]) == DONE
    assert "index.html" in capsys.readouterr().out
    _check_page(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("with_orthanc", [True, False])
def test_over_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs_judge, with_orthanc: bool
) -> None:
    if with_orthanc:
        needs_judge("Orthanc")
    else:
        monkeypatch.setattr(loop, "orthanc_program", lambda: None)
    assert invoke(["demo", "--out", str(tmp_path)]) == DONE
    html = _check_page(tmp_path)
    assert ("Orthanc" in html) is with_orthanc
    assert "committed by the peer and read back" in html
