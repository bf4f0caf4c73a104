"""Speed of the shipped segmenter beside the processor's own speed at convolutions."""

from __future__ import annotations

import time

import pytest

from inference.imaging.reading import read_case
from inference.models.unet.segmenter import UnetSegmenter
from inference.stages.load import load
from inference.stages.selection import select
from tests.builders.roofline import best_rate, counted

pytestmark = pytest.mark.benchmark

LONGEST_S = 25.0
"""For liver and lesions of a whole abdomen of about 120 slices on two cores."""


def test_liver_and_lesions_of_a_whole_abdomen(needs_data, record_property) -> None:
    case = read_case(needs_data("ircad17"))
    baseline = load(select(case))
    segmenter = UnetSegmenter.from_bundle()
    rates = [best_rate()]
    networks = segmenter.networks[baseline.primary.modality]
    with counted(networks.coarse, networks.fine) as flops:
        started, used = time.perf_counter(), time.process_time()
        segmenter.segment(case, baseline)
        seconds, used = time.perf_counter() - started, time.process_time() - used
    rates.append(best_rate())
    roofline = sum(flops) / max(rates)
    slices = baseline.primary.grid.shape[0]
    record_property("seconds", seconds)
    record_property("processor_seconds", used)
    record_property("roofline_seconds", roofline)
    print(
        f"{slices} slices: {seconds:.1f} s, {used:.1f} s of processor time; its convolutions at the best "
        f"rate ({max(rates) / 1e9:.0f} GFLOP/s): {roofline:.1f} s; over roofline {used / roofline:.2f}"
    )
    assert seconds <= LONGEST_S
