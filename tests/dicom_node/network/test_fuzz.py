"""Fuzzing: mutated recordings of DCMTK's tools and inputs made by grammar, against a listener process."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.builders.dicom_files import Called, ct_slice, send
from tests.builders.fuzzing import (
    MUTATIONS,
    EchoWatch,
    Pdus,
    attack,
    echo_seconds,
    fuzz_input,
    recording,
    split_pdus,
)
from tests.builders.listeners import ListenerProcess, listener_config, listener_process

SEED = 5
INPUTS, WARM_UP, MANY = 300, 2_000, 100_000
ATTACKERS = 6
ECHO_BAR_S = 1.0
GROWTH_BAR_MB = 100.0
SIGNS_OF_A_CRASH = ("a thread of the listener ended", "Traceback", "internal error", "Exception in thread")


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[ListenerProcess]:
    data_dir = tmp_path / "data"
    config = listener_config(
        data_dir, association_deadline_s=2.0, pdu_deadline_s=2.0, idle_deadline_s=5.0,
        maximum_object_bytes=4 * 1024**2, maximum_buffered_bytes=64 * 1024**2,
    )  # fmt: skip
    with listener_process(config, data_dir) as process:
        yield process
        assert process.process.poll() is None
        assert send([ct_slice(number=99)], Called(process.port)) == [0]
    found = [sign for sign in SIGNS_OF_A_CRASH if sign in process.log.read_text(errors="replace")]
    assert not found, process.log.read_text(errors="replace")[-3000:]


def recorded(port: int, folder: Path, needs_judge) -> list[Pdus]:
    """Return what DCMTK's tools say: an echo, a store, three stores in small PDUs, and a query."""
    files = []
    for number in range(3):
        files.append(folder / f"{number}.dcm")
        ct_slice(number=number + 1, rows=24).save_as(files[-1], enforce_file_format=True)
    names = [str(f) for f in files]
    titles = ("-aet", "SENDER", "-aec", "HEPATOCAST")
    commands = (
        (needs_judge("echoscu"), (), ()),
        (needs_judge("storescu"), (), names[:1]),
        (needs_judge("storescu"), ("--max-send-pdu", "4096"), names),
        (needs_judge("storescu"), ("-xv",), names[:1]),
        (needs_judge("findscu"), ("-S", "-k", "0008,0052=STUDY", "-k", "0020,000D="), ()),
    )
    with recording(port) as (proxy, sent):
        for program, options, arguments in commands:
            command = [program, *titles, *options, "127.0.0.1", str(proxy), *arguments]
            subprocess.run(command, capture_output=True, timeout=60, check=False)
    return [split_pdus(content) for content in sent]


def run(port: int, numbers: range, recordings: list[Pdus]) -> None:
    """Attack with inputs of those numbers, several at once; a harmful one is named."""

    def one(number: int) -> str:
        try:
            attack(port, fuzz_input(SEED, number, recordings))
        except (AssertionError, ConnectionRefusedError) as error:
            return f"fuzz_input({SEED}, {number}): {error}"
        return ""

    with ThreadPoolExecutor(ATTACKERS) as pool:
        harmful = [text for text in pool.map(one, numbers) if text]
    assert not harmful, harmful[:5]


def memory_mb(listener: ListenerProcess) -> float:
    return float(psutil.Process(listener.process.pid).memory_info().rss) / 1e6


def test_the_recordings_are_conversations(listener: ListenerProcess, tmp_path: Path, needs_judge) -> None:
    recordings = recorded(listener.port, tmp_path, needs_judge)
    assert [r[0][0] for r in recordings] == [1] * 5
    assert [r[-1][0] for r in recordings[:4]] == [5] * 4  # each released in the end
    assert len(recordings[2]) > len(recordings[1]) > 3


def test_an_input_follows_from_its_number() -> None:
    recordings = [split_pdus(bytes.fromhex("0100000000040001000005000000000400000000"))]
    inputs = [fuzz_input(1, number, recordings) for number in range(400)]
    assert inputs == [fuzz_input(1, number, recordings) for number in range(400)]
    assert len({b"".join(i) for i in inputs}) > 300
    assert len(MUTATIONS) == 8


def test_hundreds_of_hostile_inputs(listener: ListenerProcess, tmp_path: Path, needs_judge) -> None:
    recordings = recorded(listener.port, tmp_path, needs_judge)
    before = memory_mb(listener)
    with EchoWatch(listener.port) as watch:
        run(listener.port, range(INPUTS), recordings)
    assert not watch.failures
    assert max(watch.seconds) < ECHO_BAR_S
    assert memory_mb(listener) - before < GROWTH_BAR_MB


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_100_000_hostile_inputs(listener: ListenerProcess, tmp_path: Path, needs_judge, capsys) -> None:
    """The bar: no crash, no hang, memory grows by less than 100 MB, C-ECHO always within 1 s."""
    recordings = recorded(listener.port, tmp_path, needs_judge)
    with EchoWatch(listener.port, every_s=0.5) as watch:
        run(listener.port, range(WARM_UP), recordings)
        before = memory_mb(listener)
        run(listener.port, range(WARM_UP, MANY), recordings)
        after = memory_mb(listener)
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{MANY} inputs: {len(watch.seconds)} echoes, slowest {max(watch.seconds):.3f} s, "
            f"{len(watch.failures)} failed; memory {before:.0f} -> {after:.0f} MB"
        )
    assert not watch.failures
    assert max(watch.seconds) < ECHO_BAR_S
    assert after - before < GROWTH_BAR_MB
    assert echo_seconds(listener.port) < ECHO_BAR_S
