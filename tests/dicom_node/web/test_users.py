"""Users of the page: their file, their hashes, and the secret of the sessions."""

from __future__ import annotations

import json
import stat
import threading

import pytest

from dicom_node.errors import ConfigurationError
from dicom_node.secret_files import private_secret
from dicom_node.web.sessions import MAXIMUM_REMEMBERED, Brake
from dicom_node.web.users import RIGHTS, Right, Role, Users, hash_password, password_matches

PASSWORD = "a long enough password"


def test_hash_is_scrypt_with_its_own_salt_and_holds_no_password():
    first, second = hash_password(PASSWORD), hash_password(PASSWORD)
    assert first.startswith("scrypt$32768$8$1$")
    assert first != second
    assert PASSWORD not in first
    assert password_matches(PASSWORD, first)
    assert not password_matches(PASSWORD + "x", first)


@pytest.mark.parametrize("password", ["", "short", "x" * 257])
def test_passwords_have_a_length(password):
    with pytest.raises(ConfigurationError, match="12 to 256"):
        hash_password(password)


def test_file_is_for_its_owner_and_takes_changes(tmp_path):
    users = Users(tmp_path / "folder" / "users.json")
    assert users.put("anna", Role.VIEWER, PASSWORD)
    assert not users.put("anna", Role.OPERATOR, PASSWORD)
    assert stat.S_IMODE(users.file.stat().st_mode) == 0o600
    user = users.authenticate("anna", PASSWORD)
    assert user is not None
    assert user.role is Role.OPERATOR
    assert users.authenticate("anna", "wrong") is None
    users.remove("anna")
    assert users.all() == {}
    with pytest.raises(ConfigurationError, match="no user 'anna'"):
        users.remove("anna")


@pytest.mark.parametrize("name", ["", "../x", "a b", "x" * 33, "<b>"])
def test_names_are_plain(tmp_path, name):
    with pytest.raises(ConfigurationError):
        Users(tmp_path / "users.json").put(name, Role.VIEWER, PASSWORD)


@pytest.mark.parametrize("content", ["nonsense", "{}", '[{"name": "a"}]', '[{"name": "a", "role": "root"}]'])
def test_damaged_file_lets_nobody_in(tmp_path, content):
    file = tmp_path / "users.json"
    file.write_text(content)
    if content == "{}":
        assert Users(file).all() == {}
        return
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Users(file).all()


def test_unknown_name_costs_a_hash_too(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(
        "dicom_node.web.users.password_matches", lambda _p, found: bool(tried.append(found)) or False
    )
    Users(tmp_path / "users.json").authenticate("nobody", PASSWORD)
    assert len(tried) == 1
    assert tried[0].startswith("scrypt$32768$8$1$")


def test_rights_grow_with_the_role():
    assert RIGHTS[Role.VIEWER] < RIGHTS[Role.CLINICIAN] < RIGHTS[Role.OPERATOR]
    assert RIGHTS[Role.OPERATOR] == set(Right)


def test_secret_is_made_once_even_by_two_at_once(tmp_path):
    file = tmp_path / "secret"
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(private_secret(file))) for _ in range(2)]
    private_secret(file)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found[0]) >= 48
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.dumps(found[0]).isascii()


def test_brake_forgets_the_oldest_and_stays_bounded(clock):
    brake = Brake(2, 60, clock)
    for number in range(MAXIMUM_REMEMBERED + 10):
        brake.wrong(f"name {number}")
    assert len(brake._wrong) == MAXIMUM_REMEMBERED
    brake.wrong("x")
    assert brake.wait_s("x") == 0
    brake.wrong("x")
    assert brake.wait_s("x", "y") == 60
    brake.right("x")
    assert brake.wait_s("x") == 0
