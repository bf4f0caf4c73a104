"""What is installed is ours, complete, and light where it must be."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

import dicom_node
import inference
import reporting
from dicom_node.settings import packaged_config_dir

ROOT = Path(__file__).resolve().parents[1]
HEAVY = (
    "numpy",
    "pydicom",
    "pynetdicom",
    "highdicom",
    "scipy",
    "SimpleITK",
    "matplotlib",
    "sqlalchemy",
    "torch",
)


@pytest.mark.parametrize("package", [dicom_node, inference, reporting])
def test_the_imported_packages_are_ours(package) -> None:
    assert Path(package.__file__).parent.parent == ROOT


def test_the_distribution_has_the_command() -> None:
    (command,) = distribution("hepatocast").entry_points.select(group="console_scripts")
    assert command.name == "hepatocast"


def test_packaged_configuration_is_found() -> None:
    names = {p.name for p in packaged_config_dir().iterdir()}
    assert {"node.yaml", "routing.yaml", "regimens.yaml", "pipeline.yaml"} <= names


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from dicom_node.cli.main import app; "
        f"print(','.join(m for m in {HEAVY!r} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""


@pytest.mark.slow
def test_a_wheel_carries_configuration_bundles_and_page(tmp_path: Path) -> None:
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            str(tmp_path),
            str(ROOT),
        ],
        check=True,
    )
    (wheel,) = tmp_path.glob("hepatocast-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "dicom_node/config/node.yaml" in names
    assert "dicom_node/demo/page.html.j2" in names
    assert any(n.startswith("inference/bundles/") and n.endswith("metadata.json") for n in names)
    assert not any(n.startswith(("tests/", "config/")) for n in names)
