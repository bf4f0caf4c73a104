"""Images, compose file and manifests: they parse, name what exists, and their settings load."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from dicom_node.settings import NodeSettings, load_settings

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
MANIFESTS = sorted((DOCKER / "kubernetes").glob("*.yaml"))


def _compose() -> dict[str, Any]:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text())


def _manifests() -> list[dict[str, Any]]:
    return [d for file in MANIFESTS for d in yaml.safe_load_all(file.read_text())]


def _stages() -> set[str]:
    return set(re.findall(r"^FROM \S+ AS (\w+)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE))


def test_the_image_copies_files_that_exist_and_installs_what_several_machines_need() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
    assert "[postgresql,s3]" in text
    assert {"listener", "node"} <= _stages()


def test_the_compose_file_names_files_volumes_and_stages_that_exist() -> None:
    compose = _compose()
    assert {"orthanc", "database", "node", "steward", "worker"} <= set(compose["services"])
    for service in compose["services"].values():
        build = service.get("build")
        if build is not None:
            assert (DOCKER / build["context"] / build["dockerfile"]).is_file()
            assert build["target"] in _stages()
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            known = (DOCKER / source).is_file() if source.startswith(".") else source in compose["volumes"]
            assert known, source
        for other in service.get("depends_on", {}):
            assert other in compose["services"]
    assert compose["services"]["worker"]["deploy"]["replicas"] == 2


def test_no_password_is_written_down() -> None:
    environment = _compose()["services"]["database"]["environment"]
    assert environment["POSTGRES_PASSWORD"].startswith("${HEPATOCAST_DATABASE_PASSWORD:?")
    for file in DOCKER.rglob("*"):
        if file.is_file():
            for found in re.findall(r"://[^:/@\s]+:([^@\s]+)@", file.read_text()):
                assert found.startswith("$") or found in ("password", "secret"), file


def _check(settings: NodeSettings) -> None:
    assert settings.storage.database.is_remote
    assert settings.storage.objects.startswith("/var/lib/hepatocast/")
    assert settings.data_dir.is_absolute()
    assert settings.listener.host == "0.0.0.0"
    assert [p.name for p in settings.peers] == ["pacs"]


def test_the_settings_of_the_compose_file_load() -> None:
    settings = load_settings([DOCKER / "site.yaml"])
    _check(settings)
    variable = settings.storage.database.url_environment
    for name in ("node", "steward", "worker"):
        assert variable in _compose()["services"][name]["environment"]
    modality = json.loads((DOCKER / "orthanc.json").read_text())["DicomModalities"]["HEPATOCAST"]
    assert modality["Host"] in _compose()["services"]
    assert (modality["AET"], modality["Port"]) == (settings.listener.ae_title, settings.listener.port)


def test_the_settings_of_the_manifests_load(tmp_path: Path) -> None:
    (text,) = (d["data"]["site.yaml"] for d in _manifests() if d["kind"] == "ConfigMap")
    file = tmp_path / "site.yaml"
    file.write_text(text)
    settings = load_settings([file])
    _check(settings)
    mounts = {
        m["mountPath"]
        for d in _manifests()
        if d["kind"] == "Deployment"
        for m in d["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    }
    assert str(settings.storage.database.url_file.parent) in mounts
    assert {settings.storage.objects, str(settings.data_dir)} <= mounts


@pytest.mark.parametrize("deployment", [d for d in _manifests() if d["kind"] == "Deployment"])
def test_manifests_fit_together(deployment: dict[str, Any]) -> None:
    spec = deployment["spec"]["template"]["spec"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    volumes = {v["name"] for v in spec["volumes"]}
    assert {m["name"] for m in spec["containers"][0]["volumeMounts"]} == volumes
    claims = [d["metadata"]["name"] for d in _manifests() if d["kind"] == "PersistentVolumeClaim"]
    used = [v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v]
    assert set(used) <= set(claims)


@pytest.mark.parametrize("manifest", _manifests(), ids=lambda d: f"{d['kind']}-{d['metadata']['name']}")
def test_manifests_are_of_the_schema_of_kubernetes(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_a_worker_may_finish_its_job_when_it_is_asked_to_stop() -> None:
    (worker,) = (d for d in _manifests() if d["metadata"]["name"] == "hepatocast-worker")
    grace = worker["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > load_settings([DOCKER / "site.yaml"]).jobs.time_limit_s


IMPORT_WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(name, name=name)

BLOCKED = set(sys.stdin.read().split())
sys.meta_path.insert(0, Absent())
import dicom_node.network.scp, psycopg, s3fs
print("torch" in sys.modules)
"""


def test_the_listener_runs_with_what_its_image_has() -> None:
    """It is imported where every other distribution is absent."""
    named = (DOCKER / "listener-requirements.txt").read_text()
    listed = {_plain(n) for n in re.findall(r"^([A-Za-z0-9-]+)", named, re.MULTILINE)}
    allowed = {"hepatocast"}.union(listed, *(_requirements(name) for name in listed))
    modules = packages_distributions()
    blocked = {m for m, of in modules.items() if not {_plain(d) for d in of} & allowed}
    assert {"torch", "highdicom", "scipy"} <= blocked
    found = subprocess.run(
        [sys.executable, "-c", IMPORT_WITHOUT],
        input=" ".join(blocked - {"dicom_node", "inference", "reporting"}),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (found.returncode, found.stdout.strip()) == (0, "False"), found.stderr[-2000:]


def _plain(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _requirements(name: str) -> set[str]:
    """Return what a distribution brings, and what that brings."""
    from importlib.metadata import PackageNotFoundError, requires

    found: set[str] = set()
    left = [name]
    while left:
        try:
            needed = requires(left.pop()) or []
        except PackageNotFoundError:
            continue
        for line in needed:
            other = _plain(re.split(r"[^A-Za-z0-9._-]", line)[0])
            if other not in found and ("extra ==" not in line or "binary" in line or "pool" in line):
                found.add(other)
                left.append(other)
    return found
