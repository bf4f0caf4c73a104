"""Choose the series of each phase; every series that is not chosen gets its reason."""

from __future__ import annotations

from collections import defaultdict

from inference.case import Case, Phase, Series, SeriesRole
from inference.imaging.attributes import text
from inference.imaging.phase import PhaseFinding
from inference.imaging.phase_evidence import evidence_of, settle
from inference.imaging.recon import better_because, order, reconstruction
from inference.imaging.segmentations import is_segmentation, referenced_series, segmentation_instances
from inference.imaging.selection import PRIMARY_ORDER, ChosenSeries, Selection
from inference.imaging.usability import unusable_reason
from inference.results import RejectedSeries


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
        if is_segmentation(series.instances[0].header) or series.role is SeriesRole.DSA:
            continue  # An angiography is listed in the case, and neither chosen nor refused.
        reason = unusable_reason(series, segmented=series.series_instance_uid in referenced)
        if reason is None:
            usable.append(series)
        else:
            rejected.append(_reject(series, reason))
    chosen, alternatives = _one_of_each(usable, referenced, rejected)
    primary_uids = referenced_series(segmentations[0].header) if segmentations else ()
    chosen.sort(key=lambda c: _primary_key(c, primary_uids))
    chosen = _one_modality(chosen, rejected)
    modality = chosen[0].series.modality if chosen else ""
    alternatives = [a for a in alternatives if a.series.modality == modality]
    return Selection(
        case.study_instance_uid, tuple(chosen), segmentations, tuple(rejected), tuple(alternatives)
    )


def _reject(series: Series, reason: str) -> RejectedSeries:
    return RejectedSeries(series.series_instance_uid, series.modality, series.description, reason)


def _one_of_each(
    usable: list[Series], referenced: set[str], rejected: list[RejectedSeries]
) -> tuple[list[ChosenSeries], list[ChosenSeries]]:
    """Return the best series of each phase, and the best of other acquisitions of these phases."""
    groups: dict[tuple[str, str], list[tuple[Series, PhaseFinding]]] = defaultdict(list)
    for series, finding in zip(usable, _findings(usable), strict=True):
        groups[_group(series, finding)].append((series, finding))
    chosen: list[ChosenSeries] = []
    alternatives: list[ChosenSeries] = []
    for key in sorted(groups):
        described = [
            (reconstruction(s, segmented=s.series_instance_uid in referenced), s, finding)
            for s, finding in groups[key]
        ]
        described.sort(key=lambda item: order(item[0]))
        best, series, finding = described[0]
        chosen.append(ChosenSeries(finding.phase, series, finding.evidence))
        rejected += [_reject(s, better_because(best, r)) for r, s, _ in described[1:]]
        alternatives += _other_acquisitions([(s, f) for _, s, f in described])
    return chosen, alternatives


def _other_acquisitions(described: list[tuple[Series, PhaseFinding]]) -> list[ChosenSeries]:
    """Return the first series of each acquisition but that of the first series."""
    found: dict[str, ChosenSeries] = {}
    for series, finding in described:
        found.setdefault(_acquisition(series), ChosenSeries(finding.phase, series, finding.evidence))
    return list(found.values())[1:]


def _findings(usable: list[Series]) -> list[PhaseFinding]:
    """Return the phase of each series: its own attributes, and the order of the acquisitions."""
    evidence = [evidence_of([i.header for i in s.instances], s.modality) for s in usable]
    return [PhaseFinding(found.phase, found.evidence) for found in settle(evidence)]


def _group(series: Series, finding: PhaseFinding) -> tuple[str, str]:
    """Series of one group show the same: one phase or, where it is unknown, one acquisition."""
    if finding.phase is not Phase.UNKNOWN:
        return str(finding.phase), ""
    return str(finding.phase), _acquisition(series)


def _acquisition(series: Series) -> str:
    header = series.instances[0].header
    return text(header, "AcquisitionNumber") + " " + text(header, "AcquisitionTime")[:4]


def _primary_key(chosen: ChosenSeries, primary_uids: tuple[str, ...]) -> tuple[bool, int, str]:
    uid = chosen.series.series_instance_uid
    return uid not in primary_uids, PRIMARY_ORDER.index(chosen.phase), uid


def _one_modality(chosen: list[ChosenSeries], rejected: list[RejectedSeries]) -> list[ChosenSeries]:
    """Keep the series of the primary's modality: CT and MR of one study are not compared."""
    if not chosen:
        return chosen
    modality = chosen[0].series.modality
    others = [c for c in chosen if c.series.modality != modality]
    rejected += [_reject(c.series, f"the primary series is {modality}") for c in others]
    return [c for c in chosen if c.series.modality == modality]
