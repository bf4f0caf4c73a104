from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.errors import ConfigurationError
from dicom_node.settings import load_settings


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    return path


def test_packaged_defaults_are_complete() -> None:
    settings = load_settings()
    assert settings.pipeline().months == settings.months
    assert {r.id for r in settings.pipeline().regimens} == set(settings.default_regimens)


def test_a_site_states_only_what_differs(tmp_path: Path) -> None:
    settings = load_settings([_file(tmp_path, "listener: {port: 4242}\n")])
    assert settings.listener.port == 4242
    assert settings.listener.ae_title == "HEPATOCAST"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("listener: {prot: 4242}\n", "listener.prot"),
        ("listener: {ae_title: 'ABCDEFGHIJKLMNOPQ'}\n", "16 printable"),
        (
            "peers: [{name: a, ae_title: A, host: h, port: 1}, {name: a, ae_title: B, host: h, port: 2}]\n",
            "same name",
        ),
        ("default_regimens: [magic]\n", "magic"),
        ("rules: [{name: x, when: 'true', send_to: [nobody]}]\n", "nobody"),
        ("assembly: {confirm_with: nobody}\n", "confirm_with"),
        ("jobs: {lease_s: 5, heartbeat_s: 4}\n", "heartbeat_s"),
        ("models: {second_opinions: [/a, /a]}\n", "named twice"),
        ("months: [6, 3]\n", "months"),
        ("- a\n- b\n", "table of settings"),
        ("a: [\n", "not YAML"),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(tmp_path: Path, text: str, says: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(ConfigurationError, match=r"(?s)site\.yaml") as caught:
        load_settings([path]).pipeline()
    assert says in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="absent.yaml"):
        load_settings([tmp_path / "absent.yaml"])


def test_an_unknown_regimen_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="known are"):
        load_settings().pipeline(["magic"])
