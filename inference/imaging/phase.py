"""Contrast phase and MR sequence: from attributes first, from HU where attributes say nothing.

Every conclusion comes with one sentence that says what it rests on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydicom.dataset import Dataset

from inference.case import Phase
from inference.imaging.attributes import number, text
from inference.imaging.segmentations import Structure


@dataclass(frozen=True, slots=True)
class PhaseFinding:
    """A phase and the sentence that says what it rests on.

    Attributes
    ----------
    trust : float
        How often such a finding is right; a value of `TRUST`.
    candidates : tuple of Phase
        Phases that are left where it is unknown; empty where none is more likely than another.
    """

    phase: Phase
    evidence: str
    trust: float = 0.9
    candidates: tuple[Phase, ...] = ()


TRUST: Mapping[str, float] = {
    "SeriesDescription": 0.92,
    "ProtocolName": 0.75,
    "delay": 0.92,
    "agent": 0.85,
    "enhanced": 0.85,
    "sequence": 0.95,
}
"""How far a finding from each source is believed, as a probability.

Estimates, made once and not tuned: descriptions are typed or copied by people, and protocol names are
often those of the whole examination.
"""

# ------------------------------------------------------------------ words

WORDS: tuple[tuple[Phase, str], ...] = (
    (
        Phase.NATIVE,
        (
            r"\bnativ\w*|\bnon[- ]?contrast|\bnoncontrast|\bunenhanced|\bwithout\b|\bw/?o\b|\bno iv\b"
            r"|\bplain\b"
            r"|\bpre[- ]?(contrast|kontrast|km|gd|gado\w*)\b"
            r"|\bohne (km|kontrast\w*)|\bsans (injection|iv|pdc)"
            r"|\bsin (contraste|civ)|\bsenza (mdc|contrasto)|\bbasale?\b|\bbez kontrastu"
            r"|\bnect\b|\bncct?\b|\bc-(?=\s|$)|\bzonder contrast|\bblanco\b|\bnatywn\w*|\bbez (kontr|śr)\w*"
            r"|\bbasal\w*|\bsem contraste|\bkontrasts[ıi]z|\butan kontrast|\bnativn\w*|натив\w*|без контр\w*"
            r"|평|조영전|平扫|平掃|単純|造影前"
        ),
    ),
    (
        Phase.ARTERIAL,
        (
            r"\barterial\w*|arteriell\w*|\bart[eé]riel\w*|\barterios\w*"
            r"|\barterieel|\btętnicz\w*|\bart\b"
            r"|\b[el]?hap\b|\b[el]ap\b|\bap\b(?=.*(phase|liver))|\bart[ _-]?phase|\barteri[eë]\w*"
            r"|\barteryel\w*|\barteri[áa]l\w*|артериал\w*|동맥|动脉|動脈"
        ),
    ),
    (
        Phase.PORTAL_VENOUS,
        (
            r"\bporto?[- ]?al\w*|\bporto[- ]?v\w+|\bportalven\w*|\bvenous|\bven[öo]s\w*|\bveno[sz]\w*"
            r"|\bveineux"
            r"|\bportale?\b|\bporto\b|\bveneuze?\b|\bvp\b|\bhvp\b|\bport[- ]?ven\w*|\bvena\w* port\w*|문맥"
            r"|\bżyln\w*|\bven\b|\bpvp?\b|портал\w*|веноз\w*|静脉|門脈|门脉|门静脉"
        ),
    ),
    (
        Phase.DELAYED,
        (
            r"\bdelay\w*|\blate\b|\bequilib\w*|\bsp[äa]e?t\w*|\btardi\w*|\btard[íi]\w*"
            r"|\bexcret\w*|\bhbp\b"
            r"|\bhepatobil\w*|\bopó[źz]n\w*|\bverlaat\b|\blaat\b|\bge[çc]\b|\bsen (fas|faza)|\bpo[zź]d\w*"
            r"|\b\d{1,2} ?min\w*(?= (post|delay|late|p\.?i))|отсроч\w*|지연|延迟|延遲|平衡|遅延"
        ),
    ),
)
"""Words of Series Description and Protocol Name, case ignored. A table: add the words of your site."""

_LATE_ARTERIAL = re.compile(
    r"\b(late|sp[äa]e?t|tard\w*)[ -]?art|\bart\w*[ -](late|sp[äa]e?t\w*|tard\w*)", re.IGNORECASE
)
_NOT_A_PHASE = re.compile(
    r"\b(late|early) (gadolinium|enhancement)\b|\bportal hypertension\b|\bafter delay\b|\bvenous access\b"
    r"|\bportable\b|\bwithout (fs|fat|gap|bh|breath\w*)\b|\bw/?o (fs|fat|gap|bh|breath\w*)\b",
    re.IGNORECASE,
)
"""Words that hold the name of a phase and mean something else."""

_PATTERNS = tuple((phase, re.compile(pattern, re.IGNORECASE)) for phase, pattern in WORDS)


def phases_named(description: str) -> frozenset[Phase]:
    """Return the contrast phases that a description names.

    "late arterial" is arterial and "portal delayed" delayed: where a description adds "late", the
    phase it qualifies counts.
    """
    plain = description.replace("_", " ").replace(".", " ")
    plain = _NOT_A_PHASE.sub(" ", plain)
    found = {phase for phase, pattern in _PATTERNS if pattern.search(plain)}
    if Phase.ARTERIAL in found and _LATE_ARTERIAL.search(plain):
        found.discard(Phase.DELAYED)
    if Phase.DELAYED in found:
        found.discard(Phase.PORTAL_VENOUS)
    return frozenset(found)


# ------------------------------------------------------------------ timing

DELAYS_S: tuple[tuple[float, float, Phase], ...] = (
    (10.0, 50.0, Phase.ARTERIAL),
    (55.0, 110.0, Phase.PORTAL_VENOUS),
    (150.0, 900.0, Phase.DELAYED),
)
"""Seconds from the start of the contrast bolus to the acquisition; between the ranges: not known.

Late arterial 35-40 s, portal venous 60-80 s, delayed 2-5 min: LI-RADS v2018, technical
recommendations; the ranges are wider for slow circulation and long injections.
"""


def bolus_delay_s(header: Dataset) -> float | None:
    """Return the seconds from Contrast/Bolus Start Time to Acquisition Time, if both are there."""
    start, acquired = (_seconds(text(header, k)) for k in ("ContrastBolusStartTime", "AcquisitionTime"))
    if start is None or acquired is None:
        return None
    delay = (acquired - start) % 86400.0
    return delay if delay < 3600.0 else None


def _seconds(time: str) -> float | None:
    match = re.fullmatch(r"(\d{2})(\d{2})(\d{2})(\.\d+)?", time.strip())
    if match is None:
        return None
    hours, minutes, seconds, fraction = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + float(fraction or 0)


# ------------------------------------------------------------------ CT


def acquired_at_s(header: Dataset) -> float | None:
    """Return when a series was acquired, in seconds of the day, or None where it is not said."""
    moment = _seconds(text(header, "AcquisitionTime"))
    if moment is None:
        moment = _seconds(text(header, "AcquisitionDateTime")[8:].split("+")[0].split("-")[0])
    return moment


def _delay_phase(delay: float, evidence: str) -> PhaseFinding:
    for low, high, phase in DELAYS_S:
        if low <= delay <= high:
            return PhaseFinding(phase, evidence, trust=TRUST["delay"])
    return PhaseFinding(Phase.UNKNOWN, f"{evidence[:-1]}, between phases.")


def ct_phase(header: Dataset) -> PhaseFinding:
    """Return the phase of a CT series from the attributes of one slice; UNKNOWN when they say nothing."""
    named = _named(header)
    if named is not None:
        return named
    agent = text(header, "ContrastBolusAgent").strip().lower()
    if agent in {"none", "no", "no contrast", "without", "ohne", "n/a", "sans", "sin", "nein"}:
        return PhaseFinding(Phase.NATIVE, f'Contrast/Bolus Agent says "{agent}".', trust=TRUST["agent"])
    delay = bolus_delay_s(header)
    if delay is not None:
        return _delay_phase(delay, f"Acquired {delay:.0f} s after the start of the contrast bolus.")
    return PhaseFinding(Phase.UNKNOWN, "No attribute names the contrast phase.")


def _named(header: Dataset) -> PhaseFinding | None:
    for keyword, name in (("SeriesDescription", "Series Description"), ("ProtocolName", "Protocol Name")):
        value = text(header, keyword)
        found = phases_named(value)
        if len(found) == 1:
            sentence = f'{name} "{value[:64]}" names the phase.'
            return PhaseFinding(next(iter(found)), sentence, trust=TRUST[keyword])
        if keyword != "SeriesDescription":
            continue
        if found:
            sentence = f'{name} "{value[:64]}" names several phases.'
            return PhaseFinding(Phase.UNKNOWN, sentence, TRUST[keyword], tuple(sorted(found)))
        seconds = seconds_named(value)
        if seconds is not None:
            return _delay_phase(seconds, f'{name} "{value[:64]}" names {seconds:.0f} s after injection.')
    return None


_SECONDS = re.compile(
    r"(?<![\w.,])(\d{2,3}) ?(?:s|sec|secs|sek|seconds?|sekunden|secondes|秒)(?![\w-])", re.IGNORECASE
)
_MINUTES = re.compile(r"(?<![\w.,])(\d{1,2}) ?(?:min|mins|minutes?|minuten|分)(?![\w-])", re.IGNORECASE)


def seconds_named(description: str) -> float | None:
    """Return the one delay after injection that a description names, such as "Liver 70s" or "5 min"."""
    plain = description.replace("_", " ")
    found = [float(v) for v in _SECONDS.findall(plain)] + [60.0 * float(v) for v in _MINUTES.findall(plain)]
    return found[0] if len(found) == 1 and 15.0 <= found[0] <= 1800.0 else None


# ------------------------------------------------------------------ MR

_T2_WORDS = re.compile(r"\bt2|haste|\bssfse|\bss?tse|\bblade|propeller|\bmrcp", re.IGNORECASE)
_T1_WORDS = re.compile(
    r"\bt1|vibe|\blava|thrive|\bfame\b|\bfspgr|\bflash\b|\btfe\b|dynamic|\bdyn\b", re.IGNORECASE
)
_MR_CONTRAST: Mapping[Phase, Phase] = {
    Phase.NATIVE: Phase.T1,
    Phase.ARTERIAL: Phase.T1_ARTERIAL,
    Phase.PORTAL_VENOUS: Phase.T1_PORTAL_VENOUS,
    Phase.DELAYED: Phase.DELAYED,
}


def mr_phase(header: Dataset) -> PhaseFinding:
    """Return the sequence of an MR series, with its contrast phase for T1."""
    weighting, why = _weighting(header)
    if weighting is Phase.T2 or weighting is Phase.UNKNOWN:
        return PhaseFinding(weighting, why, trust=TRUST["sequence"])
    contrast = ct_phase(header)
    if contrast.phase is not Phase.UNKNOWN:
        return PhaseFinding(_MR_CONTRAST[contrast.phase], f"{why} {contrast.evidence}", contrast.trust)
    if contrast.candidates:
        left = tuple(_MR_CONTRAST[p] for p in contrast.candidates)
        return PhaseFinding(Phase.UNKNOWN, f"{why} {contrast.evidence}", contrast.trust, left)
    if text(header, "ContrastBolusAgent").strip():
        sentence = f"{why} With contrast agent, but no attribute names the phase."
        return PhaseFinding(Phase.UNKNOWN, sentence, TRUST["enhanced"], _MR_ENHANCED)
    return PhaseFinding(Phase.T1, why, trust=TRUST["ProtocolName"])


_MR_ENHANCED = (Phase.T1_ARTERIAL, Phase.T1_PORTAL_VENOUS, Phase.DELAYED)


def attribute_phase(header: Dataset, modality: str) -> PhaseFinding:
    """Return what the attributes say of the phase of a CT or MR series."""
    return mr_phase(header) if modality == "MR" else ct_phase(header)


def _weighting(header: Dataset) -> tuple[Phase, str]:
    described = f"{text(header, 'SeriesDescription')} {text(header, 'ProtocolName')}".replace("_", " ")
    if _T2_WORDS.search(described):
        return Phase.T2, "The description names a T2-weighted sequence."
    if _T1_WORDS.search(described):
        return Phase.T1, "The description names a T1-weighted sequence."
    return _weighting_by_times(header)


def _weighting_by_times(header: Dataset) -> tuple[Phase, str]:
    te, tr = number(header, "EchoTime"), number(header, "RepetitionTime")
    if te is None or tr is None:
        return Phase.UNKNOWN, "Neither description nor echo and repetition time tell the weighting."
    times = f"Echo time {te:g} ms and repetition time {tr:g} ms"
    if te >= 60 and tr >= 600:
        return Phase.T2, f"{times}: T2-weighted."
    if te < 30 and tr < 1000 and "GR" in text(header, "ScanningSequence").split("\\"):
        return Phase.T1, f"{times} of a gradient echo: T1-weighted."
    if te < 30 and tr < 1000:
        return Phase.T1, f"{times}: T1-weighted."
    return Phase.UNKNOWN, f"{times} are typical of neither T1 nor T2 weighting."


# ------------------------------------------------------------------ HU


@dataclass(frozen=True, slots=True)
class ContrastMeasurement:
    """Median HU of reference structures in one CT series.

    Attributes
    ----------
    liver_hu : float
        Parenchyma without lesions.
    liver_vessels_hu : float
        98th percentile of the smoothed parenchyma: the brighter vessels inside the liver mask.
    regions_hu : mapping
        Aorta, portal vein and kidney, where the segmentation has them.
    """

    liver_hu: float
    liver_vessels_hu: float
    regions_hu: Mapping[Structure, float]


def phase_from_hu(measured: ContrastMeasurement) -> PhaseFinding:
    """Conclude a CT contrast phase from HU; UNKNOWN where HU do not tell it.

    The limits are typical attenuation values at 120 kV (liver 55-65 HU native, about 110 HU portal
    venous; aorta above 200 HU arterial, and level with the portal vein from the portal venous phase
    on) with room for weak contrast. They are deliberately coarse.
    """
    if Structure.AORTA in measured.regions_hu:
        phase = _phase_with_aorta(measured)
    else:
        phase = _phase_without_aorta(measured)
    return PhaseFinding(phase, _hu_sentence(measured, phase))


def _phase_with_aorta(m: ContrastMeasurement) -> Phase:
    aorta = m.regions_hu[Structure.AORTA]
    portal = m.regions_hu.get(Structure.PORTAL_VEIN, m.liver_vessels_hu)
    kidney = m.regions_hu.get(Structure.KIDNEY, aorta)
    if aorta < 80:
        return Phase.NATIVE if kidney < 80 else Phase.UNKNOWN
    if aorta >= 160 and aorta >= 1.3 * portal:
        return Phase.ARTERIAL
    if portal >= 120 and m.liver_hu >= 80:
        return Phase.PORTAL_VENOUS
    if aorta < 130 and m.liver_hu >= 65:
        return Phase.DELAYED
    return Phase.UNKNOWN


def _phase_without_aorta(m: ContrastMeasurement) -> Phase:
    vessels_stand_out = m.liver_vessels_hu >= m.liver_hu + 20
    if m.liver_hu >= 80 and vessels_stand_out:
        return Phase.PORTAL_VENOUS
    return Phase.UNKNOWN


def _hu_sentence(m: ContrastMeasurement, phase: Phase) -> str:
    parts = [f"liver {m.liver_hu:.0f} HU", f"vessels inside the liver {m.liver_vessels_hu:.0f} HU"]
    parts += [f"{name} {m.regions_hu[name]:.0f} HU" for name in sorted(m.regions_hu)]
    words = {Phase.UNKNOWN: "the contrast phase cannot be told"}
    conclusion = words.get(phase, f"concluded to be {phase.value.replace('_', ' ')}")
    caution = "" if Structure.AORTA in m.regions_hu else " (no aorta is segmented, so this is less certain)"
    return f"No attribute names the phase; from HU ({', '.join(parts)}) {conclusion}{caution}."
