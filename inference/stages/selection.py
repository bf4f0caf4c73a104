"""Choose the series of each phase; every series that is not chosen gets its reason."""

from __future__ import annotations

from collections import defaultdict

from inference.case import Case, Phase, Series
from inference.imaging.attributes import text
from inference.imaging.phase import PhaseFinding, ct_phase, mr_phase
from inference.imaging.recon import better_because, order, reconstruction
from inference.imaging.segmentations import is_segmentation, referenced_series, segmentation_instances
from inference.imaging.selection import ChosenSeries, Selection
from inference.imaging.usability import unusable_reason
from inference.results import RejectedSeries

PRIMARY_ORDER: tuple[Phase, ...] = (
    Phase.PORTAL_VENOUS,
    Phase.ARTERIAL,
    Phase.DELAYED,
    Phase.UNKNOWN,
    Phase.NATIVE,
    Phase.T1_PORTAL_VENOUS,
    Phase.T1_ARTERIAL,
    Phase.T1,
    Phase.T2,
)
"""Which phase is primary when no segmentation decides."""


def select(case: Case) -> Selection:
    """Choose one series for each phase, the primary first.

    The series that the most trusted segmentation was drawn on is primary. Nothing is decoded, and an
    unusable study gives an empty choice, so that every reason can be shown.
    """
    segmentations = segmentation_instances(case)
    referenced = {uid for s in segmentations for uid in referenced_series(s.header)}
    usable: list[Series] = []
    rejected: list[RejectedSeries] = []
    for series in case.series:
        if is_segmentation(series.instances[0].header):
            continue
        reason = unusable_reason(series, segmented=series.series_instance_uid in referenced)
        if reason is None:
            usable.append(series)
        else:
            rejected.append(_reject(series, reason))
    chosen = _one_of_each(usable, referenced, rejected)
    primary_uids = referenced_series(segmentations[0].header) if segmentations else ()
    chosen.sort(key=lambda c: _primary_key(c, primary_uids))
    chosen = _one_modality(chosen, rejected)
    return Selection(case.study_instance_uid, tuple(chosen), segmentations, tuple(rejected))


def _reject(series: Series, reason: str) -> RejectedSeries:
    return RejectedSeries(series.series_instance_uid, series.modality, series.description, reason)


def _one_of_each(
    usable: list[Series], referenced: set[str], rejected: list[RejectedSeries]
) -> list[ChosenSeries]:
    groups: dict[tuple[str, str], list[tuple[Series, PhaseFinding]]] = defaultdict(list)
    for series in usable:
        finding = _phase(series)
        groups[_group(series, finding)].append((series, finding))
    chosen: list[ChosenSeries] = []
    for key in sorted(groups):
        described = [
            (reconstruction(s, segmented=s.series_instance_uid in referenced), s, finding)
            for s, finding in groups[key]
        ]
        described.sort(key=lambda item: order(item[0]))
        best, series, finding = described[0]
        chosen.append(ChosenSeries(finding.phase, series, finding.evidence))
        rejected += [_reject(s, better_because(best, r)) for r, s, _ in described[1:]]
    return chosen


def _phase(series: Series) -> PhaseFinding:
    header = series.instances[0].header
    return mr_phase(header) if series.modality == "MR" else ct_phase(header)


def _group(series: Series, finding: PhaseFinding) -> tuple[str, str]:
    """Series of one group show the same: one phase or, where it is unknown, one acquisition."""
    if finding.phase is not Phase.UNKNOWN:
        return str(finding.phase), ""
    header = series.instances[0].header
    acquired = text(header, "AcquisitionNumber") + " " + text(header, "AcquisitionTime")[:4]
    return str(finding.phase), acquired


def _primary_key(chosen: ChosenSeries, primary_uids: tuple[str, ...]) -> tuple[bool, int, str]:
    return (
        chosen.series.series_instance_uid not in primary_uids,
        PRIMARY_ORDER.index(chosen.phase),
        chosen.series.series_instance_uid,
    )


def _one_modality(chosen: list[ChosenSeries], rejected: list[RejectedSeries]) -> list[ChosenSeries]:
    """Keep the series of the primary's modality: CT and MR of one study are not compared."""
    if not chosen:
        return chosen
    modality = chosen[0].series.modality
    others = [c for c in chosen if c.series.modality != modality]
    rejected += [_reject(c.series, f"the primary series is {modality}") for c in others]
    return [c for c in chosen if c.series.modality == modality]
