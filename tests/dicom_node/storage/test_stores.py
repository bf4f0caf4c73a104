"""Stores: the same behaviour on a folder, on a memory file system of fsspec, and on a real S3 service."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from dicom_node.errors import ConfigurationError, OutOfRoom, TransientError
from dicom_node.intake.spool import Spool, file_meta, relative_path
from dicom_node.settings import NodeSettings, load_settings
from dicom_node.storage.local import LocalStore
from dicom_node.storage.opening import open_spool, open_store
from dicom_node.storage.remote import RemoteStore
from dicom_node.storage.store import Listing, Store
from tests.builders.object_storage import s3_service

KEY = "spool/ab/1.2.3/1.2.3.4-00.dcm"


@pytest.fixture(scope="module")
def s3_url(needs_judge) -> Iterator[str]:
    with s3_service(needs_judge("moto_server")) as url:
        yield url


def _settings(tmp_path: Path, **storage: object) -> NodeSettings:
    from yaml import safe_dump

    file = tmp_path / "site.yaml"
    content = {"data_dir": str(tmp_path / "data"), "storage": storage, "listener": {"minimum_free_bytes": 0}}
    file.write_text(safe_dump(content), encoding="utf-8")
    return load_settings([file])


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "folder":
        (tmp_path / "incoming").mkdir()
        return LocalStore(tmp_path / "root", tmp_path / "incoming")
    if request.param == "memory":
        files = fsspec.filesystem("memory", skip_instance_cache=True)
        files.store.clear()
        return RemoteStore(files, "/bucket/node", tmp_path / "scratch")
    url = request.getfixturevalue("s3_url")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    settings = _settings(tmp_path, objects=f"s3://hospital/{tmp_path.name}", s3_endpoint_url=url)
    return open_store(settings, "test")


@pytest.fixture(autouse=True)
def _root(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()


def _parts(*texts: bytes) -> tuple[memoryview, ...]:
    return tuple(memoryview(t) for t in texts)


def test_a_file_is_read_as_it_was_written(store: Store) -> None:
    store.put(KEY, _parts(b"head", b"tail" * 1000))
    with store.open(KEY) as file:
        assert file.read() == b"head" + b"tail" * 1000
    assert store.size(KEY) == 4004


def test_what_is_absent_is_said_to_be(store: Store) -> None:
    assert store.size(KEY) is None
    assert store.size("spool") is None
    assert store.listing("spool/ab") == Listing()
    with pytest.raises(FileNotFoundError):
        store.open(KEY)
    store.remove("spool/ab")


def test_writing_again_replaces(store: Store) -> None:
    store.put(KEY, _parts(b"one"))
    store.put(KEY, _parts(b"two!"))
    with store.open(KEY) as file:
        assert file.read() == b"two!"


def test_a_listing_is_one_level(store: Store) -> None:
    store.put(KEY, _parts(b"x"))
    store.put("spool/ab/1.2.4/a.dcm", _parts(b"x"))
    store.put("spool/cd/1.2.5/a.dcm", _parts(b"x"))
    assert store.listing("spool").folders == ("ab", "cd")
    assert store.listing("spool/ab") == Listing(("1.2.3", "1.2.4"), ())
    assert store.listing("spool/ab/1.2.3") == Listing((), ("1.2.3.4-00.dcm",))


def test_a_moved_file_is_at_its_new_key_only(store: Store) -> None:
    store.put(KEY, _parts(b"x"))
    store.move(KEY, "spool/aside/1.2.3/a.dcm")
    assert store.size(KEY) is None
    assert store.size("spool/aside/1.2.3/a.dcm") == 1


def test_removal_takes_a_prefix_and_nothing_beside_it(store: Store) -> None:
    for key in ("results/1/1/a", "results/1/2/a", "results/10/1/a"):
        store.put(key, _parts(b"x"))
    store.remove("results/1/1")
    assert store.listing("results/1").folders == ("2",)
    store.remove("results/1")
    assert store.listing("results").folders == ("10",)


def test_files_of_this_machine_have_the_contents_and_absent_ones_are_absent(store: Store) -> None:
    store.put(KEY, _parts(b"x"))
    paths = store.local([KEY, "spool/ab/absent.dcm"])
    assert paths[KEY].read_bytes() == b"x"
    assert not paths["spool/ab/absent.dcm"].exists()
    store.forget(paths)
    assert store.size(KEY) == 1
    assert store.local([KEY])[KEY].read_bytes() == b"x"


def test_what_one_user_forgets_the_other_still_has(store: Store) -> None:
    store.put(KEY, _parts(b"x"))
    one, other = store.apart("one"), store.apart("other")
    mine = other.local([KEY])[KEY]
    one.local([KEY])
    one.forget([KEY])
    assert mine.read_bytes() == b"x"


def test_results_are_made_here_and_kept_there(store: Store) -> None:
    folder = store.folder("results/7/2")
    (folder / "series").mkdir(parents=True)
    (folder / "series" / "1.dcm").write_bytes(b"one")
    (folder / "result.json").write_bytes(b"{}")
    store.keep("results/7/2")
    assert store.listing("results/7/2") == Listing(("series",), ("result.json",))
    assert store.local(["results/7/2/series/1.dcm"])["results/7/2/series/1.dcm"].read_bytes() == b"one"


def test_many_writers_at_once(store: Store) -> None:
    def write(which: int) -> None:
        for number in range(5):
            store.put(f"spool/ab/1.{which}/{number}.dcm", _parts(b"x" * 100))

    threads = [threading.Thread(target=write, args=(w,)) for w in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    counts = [len(store.listing(f"spool/ab/1.{w}").files) for w in range(4)]
    assert counts == [5] * 4


@pytest.mark.parametrize("key", ["/etc/passwd", "spool/../../x", ".."])
def test_a_key_cannot_lead_out_of_the_folder(tmp_path: Path, key: str) -> None:
    store = LocalStore(tmp_path / "root", tmp_path)
    for use in (store.open, store.size, store.listing, store.remove, lambda k: store.put(k, _parts(b"x"))):
        with pytest.raises(ValueError, match="below the root"):
            use(key)


class _Broken:
    """A file system that cannot be reached."""

    def __getattr__(self, _name: str):
        def fail(*_arguments: object, **_more: object) -> None:
            raise ConnectionError("away")

        return fail


def test_a_store_that_is_away_is_worth_trying_again(tmp_path: Path) -> None:
    store = RemoteStore(_Broken(), "bucket", tmp_path)
    with pytest.raises(OutOfRoom):
        store.put(KEY, _parts(b"x"))
    for ask in (store.size, store.open, store.listing, store.remove, lambda k: store.local([k])):
        with pytest.raises(TransientError):
            ask(KEY)


# ------------------------------------------------------------------ the spool in a store


def test_the_spool_keeps_objects_in_any_store(store: Store, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "data", 0, elsewhere=store)
    data, digest = b"abcd", "88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589"
    path = relative_path("1.2.3", "1.2.3.4", digest)
    meta = file_meta("1.2", "1.2.3.4", "1.2.840.10008.1.2.1", "PACS")
    with spool.held():
        spool.write(path, meta, memoryview(data))
        assert spool.exists(path)
        assert list(spool.studies()) == ["1.2.3"]
        assert spool.files("1.2.3") == {path}
        with spool.opened(path) as (found, file):
            assert (found.sha256, found.size_bytes, found.calling_ae_title) == (digest, 4, "PACS")
            assert file.read() == data
        spool.put_aside(path)
        assert spool.files("1.2.3") == set()
        assert spool.sweep() == 0


def test_listeners_on_one_folder_have_locks_and_incoming_files_of_their_own(tmp_path: Path) -> None:
    shared = str(tmp_path / "mounted")
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = open_spool(_settings(tmp_path / "one", objects=shared, node_name="one"), "listener")
    two = open_spool(_settings(tmp_path / "two", objects=shared, node_name="two"), "listener")
    with one.held():
        (one.incoming / "7-0.part").write_bytes(b"half")
        with two.held():
            assert two.sweep() == 0
            assert (one.incoming / "7-0.part").exists()
        with pytest.raises(ConfigurationError, match="node_name"), one.held():
            raise AssertionError("two listeners of one name")
    with two.held():
        assert two.sweep() == 1, "what a dead listener left is removed"


def test_an_object_storage_without_a_bucket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="bucket"):
        open_store(_settings(tmp_path, objects="s3://"), "test")
