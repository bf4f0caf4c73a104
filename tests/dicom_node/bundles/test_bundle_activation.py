"""Installing, activating and rolling back bundles in one data folder."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from functools import reduce
from pathlib import Path

import pytest

from dicom_node.bundles import store
from dicom_node.bundles.activation import Activations
from dicom_node.bundles.listing import BundleStatus, asked, listed
from dicom_node.database import open_database
from dicom_node.errors import ConfigurationError
from inference.bundle_store import METADATA, BundleKind, bundle_folder, describe, seal
from inference.errors import ModelError
from inference.model_settings import ModelSettings
from inference.models.catalogue import DEFAULT_BUNDLES, LOADERS
from tests.builders.model_bundles import damage, variant
from tests.builders.second_opinions import write_nomogram

GENERATOR = BundleKind.GENERATOR
SHIPPED = DEFAULT_BUNDLES[GENERATOR]


@pytest.fixture
def node(tmp_path: Path, clock) -> Activations:
    data_dir = tmp_path / "data"
    return Activations(open_database(data_dir), data_dir, clock)


def test_a_second_opinion_is_named_by_settings_and_not_activated(node: Activations, tmp_path: Path):
    bundle = store.install(write_nomogram(tmp_path / "nomogram"), node.data_dir)
    with pytest.raises(ConfigurationError, match="add its folder, .* to second_opinions in models.yaml"):
        node.activate(bundle.info.sha256)
    assert node.history() == ()


def test_second_opinions_of_the_settings_are_listed_with_what_is_wrong_with_them(tmp_path: Path):
    sound = write_nomogram(tmp_path / "nomogram")
    damaged = write_nomogram(tmp_path / "damaged")
    damage(damaged)
    folders = (sound, damaged, tmp_path / "absent")
    found = asked(ModelSettings(second_opinions=folders))
    assert [b.status for b in found] == [BundleStatus.ACTIVE, BundleStatus.DAMAGED, BundleStatus.DAMAGED]
    assert {b.kind for b in found} == {"second_opinion"}
    assert "there is no model bundle absent" in found[2].problem


def test_the_key_of_the_models_changes_with_second_opinions_and_their_bytes(
    node: Activations, tmp_path: Path
):
    folder = write_nomogram(tmp_path / "nomogram")
    models = node.in_force()
    asked = ModelSettings(second_opinions=(folder,))
    before = models.key(asked)
    assert before != models.key(ModelSettings())
    assert before == models.key(asked)
    write_nomogram(folder, "another_feature")
    assert models.key(asked) != before


def _installed(node: Activations, tmp_path: Path, version: str) -> str:
    folder = variant(tmp_path / version, version=version)
    return store.install(folder, node.data_dir).info.sha256


def test_the_shipped_bundles_are_in_force_at_first(node: Activations):
    assert node.in_force().digests[GENERATOR] == describe(SHIPPED).info.sha256
    assert node.in_force().folders[GENERATOR] == bundle_folder(SHIPPED)
    assert {b.name for b in listed(node) if b.status is BundleStatus.ACTIVE} == set(DEFAULT_BUNDLES.values())


def test_an_installed_bundle_is_a_copy_named_by_its_digest(node: Activations, tmp_path: Path):
    source = variant(tmp_path / "retrained")
    bundle = store.install(source, node.data_dir)
    assert bundle.folder == node.data_dir / "models" / bundle.info.sha256
    shutil.rmtree(source)
    assert describe(bundle.folder).info == bundle.info
    assert [p.name for p in (node.data_dir / "models").iterdir()] == [bundle.info.sha256]
    statuses = {(b.name, b.version): b.status for b in listed(node)}
    assert statuses[("mechanistic", "9.9.9")] is BundleStatus.AVAILABLE


def test_a_sealed_bundle_can_be_read_by_the_user_of_the_node(tmp_path: Path):
    folder = variant(tmp_path / "retrained")
    weights = next(p for p in folder.iterdir() if p.name != METADATA)
    weights.chmod(0o600)
    seal(folder, describe(folder).metadata)
    assert weights.stat().st_mode & 0o777 == 0o644


def test_activation_and_rollback_go_back_one_by_one(node: Activations, tmp_path: Path, clock):
    shipped = describe(SHIPPED).info.sha256
    first, second = (_installed(node, tmp_path, v) for v in ("1.1.0", "1.2.0"))
    survival = node.in_force().digests[BundleKind.SURVIVAL]
    for sha256 in (first, second):
        clock.advance(60)
        node.activate(sha256)
        assert node.in_force().digests[GENERATOR] == sha256
    for expected in (first, shipped):
        node.roll_back(GENERATOR)
        assert node.in_force().digests[GENERATOR] == expected
    with pytest.raises(ConfigurationError, match="nothing to roll back"):
        node.roll_back(GENERATOR)
    assert node.in_force().digests[BundleKind.SURVIVAL] == survival
    assert [(str(c.event), c.sha256) for c in node.history()] == [
        ("activated", first),
        ("activated", second),
        ("rolled back", first),
        ("rolled back", ""),
    ]
    assert node.history()[1].at - node.history()[0].at == 60


def test_an_activation_after_a_rollback_returns_to_what_was_in_force(node: Activations, tmp_path: Path):
    first, second, third = (_installed(node, tmp_path, v) for v in ("1.1.0", "1.2.0", "1.3.0"))
    for sha256 in (first, second):
        node.activate(sha256)
    node.roll_back(GENERATOR)
    node.activate(third)
    node.roll_back(GENERATOR)
    assert node.in_force().digests[GENERATOR] == first


def test_activating_what_is_in_force_changes_nothing(node: Activations, tmp_path: Path):
    sha256 = _installed(node, tmp_path, "1.1.0")
    node.activate(f"{SHIPPED}@{describe(SHIPPED).info.version}")
    assert node.history() == ()
    node.activate(sha256)
    node.activate(sha256)
    assert len(node.history()) == 1


def test_a_name_that_two_bundles_have_must_be_made_unique(node: Activations, tmp_path: Path):
    sha256 = _installed(node, tmp_path, "1.1.0")
    with pytest.raises(ConfigurationError, match="several bundles are called mechanistic"):
        node.find("mechanistic")
    assert node.find("mechanistic@1.1.0").info.sha256 == sha256
    assert node.find(sha256[:8]).info.sha256 == sha256
    with pytest.raises(ConfigurationError, match="no bundle is called absent"):
        node.find("absent")


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"schema": 99}, "has schema 99; this program reads up to 1"),
        ({"minimum_program": "99.0.0"}, "needs version 99.0.0"),
        ({"minimum_program": "new"}, "is no version"),
        ({"format": "crystal ball"}, "format 'crystal ball'"),
        ({"kind": "oracle"}, "kinds are segmenter, phase, generator, survival"),
    ],
)
def test_an_incompatible_bundle_is_refused_with_the_reason(
    node: Activations, tmp_path: Path, metadata: dict[str, object], reason: str
):
    folder = variant(tmp_path / "bundle", **metadata)
    with pytest.raises(ModelError, match=reason):
        store.install(folder, node.data_dir)
    assert store.installed_folders(node.data_dir) == ()


def test_what_a_bundle_says_of_itself_is_verified_too(node: Activations, tmp_path: Path):
    """Someone makes a mechanistic bundle one of real patients: results would lose their mark."""
    folder = variant(tmp_path / "bundle")
    text = (folder / METADATA).read_text(encoding="utf-8")
    (folder / METADATA).write_text(text.replace('"trained_on": "mechanistic"', '"trained_on": "real: ours"'))
    with pytest.raises(ModelError, match="metadata .* were changed"):
        store.install(folder, node.data_dir)
    (folder / METADATA).write_text(json.dumps(json.loads(text)), encoding="utf-8")
    assert store.install(folder, node.data_dir).info.trained_on == "mechanistic", "layout is no change"


def test_the_same_weights_under_another_version_are_not_taken_for_the_same(node: Activations, tmp_path: Path):
    folder = variant(tmp_path / "bundle", version="1.1.0")
    store.install(folder, node.data_dir)
    store.install(folder, node.data_dir)
    seal(folder, {**describe(folder).metadata, "version": "1.2.0"})
    with pytest.raises(ModelError, match="installed already, as mechanistic 1.1.0"):
        store.install(folder, node.data_dir)


def test_every_loader_is_there():
    """Formats that the trainings write: a name that leads nowhere would show only in a hospital."""
    for place in LOADERS.values():
        module, _, name = place.partition(":")
        assert callable(reduce(getattr, name.split("."), importlib.import_module(module))), place


def test_a_damaged_bundle_is_refused_and_nothing_is_left_of_it(node: Activations, tmp_path: Path):
    folder = variant(tmp_path / "bundle")
    damage(folder)
    with pytest.raises(ModelError, match="damaged"):
        store.install(folder, node.data_dir)
    assert not store.models_folder(node.data_dir).exists()


def test_a_link_inside_a_bundle_is_refused(node: Activations, tmp_path: Path):
    folder = variant(tmp_path / "bundle")
    (folder / "weights").symlink_to("/etc/hostname")
    with pytest.raises(ModelError, match="no plain file"):
        store.install(folder, node.data_dir)


def test_an_installed_bundle_that_was_damaged_is_shown_refused_and_repaired(
    node: Activations, tmp_path: Path
):
    sha256 = _installed(node, tmp_path, "1.1.0")
    damage(node.data_dir / "models" / sha256)
    (found,) = (b for b in listed(node) if b.sha256 == sha256)
    assert found.status is BundleStatus.DAMAGED
    assert "differ from its digest" in found.problem
    with pytest.raises(ModelError, match="damaged"):
        node.activate(sha256)
    assert node.history() == ()
    store.install(tmp_path / "1.1.0", node.data_dir)
    node.activate(sha256)
    assert node.in_force().digests[GENERATOR] == sha256


def test_an_active_bundle_that_was_damaged_is_an_error_and_not_replaced_by_another(
    node: Activations, tmp_path: Path
):
    sha256 = _installed(node, tmp_path, "1.1.0")
    node.activate(sha256)
    damage(node.data_dir / "models" / sha256)
    with pytest.raises(ModelError, match="damaged"):
        node.in_force()
    shutil.rmtree(node.data_dir / "models" / sha256)
    with pytest.raises(ModelError, match="install it again"):
        node.in_force()
    (missing,) = (b for b in listed(node) if b.status is BundleStatus.MISSING)
    assert (missing.sha256, missing.kind, missing.in_force) == (sha256, "generator", True)
    node.roll_back(GENERATOR)
    assert node.in_force().digests[GENERATOR] == describe(SHIPPED).info.sha256


def test_a_model_that_cannot_be_loaded_is_not_activated(node: Activations, tmp_path: Path):
    """The digest is right, and yet the parameters are nonsense."""
    folder = variant(tmp_path / "bundle", version="1.1.0")
    (folder / "calibrated.json").write_text("{}", encoding="utf-8")
    sealed = variant(tmp_path / "sealed", version="1.1.0")
    shutil.copy(folder / "calibrated.json", sealed)
    seal(sealed, {**describe(bundle_folder("mechanistic")).metadata, "version": "1.1.0"})
    bundle = store.install(sealed, node.data_dir)
    with pytest.raises(ModelError, match="calibrated.json"):
        node.activate(bundle.info.sha256)
    assert node.history() == ()


def test_an_installation_that_was_killed_leaves_no_bundle(
    node: Activations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The copy is renamed only when it is whole and on the disk."""
    folder = variant(tmp_path / "bundle")
    flushed: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: flushed.append(fd) or fsync(fd))
    rename = Path.rename

    def killed(self: Path, target: Path) -> Path:
        assert len(flushed) >= len(list(folder.iterdir()))
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        store.install(folder, node.data_dir)
    assert store.installed_folders(node.data_dir) == ()
    monkeypatch.setattr(Path, "rename", rename)
    assert store.install(folder, node.data_dir).info.version == "9.9.9"
