"""The images of docker/Dockerfile are built, and what runs in them does its work as an unprivileged user."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.builders.dicom_files import ct_series
from tests.builders.images import Images
from tests.builders.orthanc import free_port
from tests.builders.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(3600)]

TORCH_INDEX = "HEPATOCAST_TORCH_INDEX"
"""Names an index of packages to take torch from, where that of the Dockerfile is not reached."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, needs_judge) -> Images:
    buildah, debootstrap = needs_judge("buildah"), needs_judge("debootstrap")
    if os.geteuid() != 0:
        pytest.skip("a base image is made by root alone")
    made = Images(buildah, tmp_path_factory.mktemp("images"))
    made.make_base(debootstrap)
    return made


def test_the_listener_of_its_image_receives(images: Images, tmp_path: Path, needs_judge) -> None:
    echoscu, storescu = needs_judge("echoscu"), needs_judge("storescu")
    port = free_port()
    settings = {
        "data_dir": "/var/lib/hepatocast/data",
        "listener": {"ae_title": "HEPATOCAST", "host": "127.0.0.1", "port": port},
        "peers": [{"name": "sender", "ae_title": "SENDER", "host": "127.0.0.1", "port": 104}],
    }
    folder = tmp_path / "settings"
    folder.mkdir()
    (folder / "site.yaml").write_text(yaml.safe_dump(settings))
    (one,) = ct_series(1, "1.2.3", "1.2.3.1")
    one.save_as(tmp_path / "one.dcm", enforce_file_format=True)
    called = ["-aet", "SENDER", "-aec", "HEPATOCAST", "127.0.0.1", str(port)]
    container = images.build("listener", {})
    command = ["python", "-m", "dicom_node.network.scp", "--config", "/etc/hepatocast/site.yaml"]
    with images.running(container, command, folder, tmp_path / "log"):
        until(lambda: subprocess.run([echoscu, *called], capture_output=True).returncode == 0, within_s=60)
        subprocess.run([storescu, *called, str(tmp_path / "one.dcm")], check=True, capture_output=True)
    user = images.run("run", container, "--", "id", "-un")
    assert user == "hepatocast"
    assert images.run("run", container, "--", "sh", "-c", "ls -A data/spool | head -1")


def test_the_node_of_its_image_shows_the_whole_loop(images: Images, tmp_path: Path) -> None:
    index = os.environ.get(TORCH_INDEX)
    container = images.build("node", {} if index is None else {"TORCH_INDEX": index})
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    images.run("run", container, "--", "hepatocast", "models", "verify")
    images.run("run", "--volume", f"{out}:/out", container, "--", "hepatocast", "demo", "--out", "/out/demo")
    made = {path.name for path in (out / "demo").iterdir()}
    assert {"index.html", "result.json", "report.pdf", "virtual_series", "charts"} <= made
