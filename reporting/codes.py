"""Every coded concept that the objects use, in one table.

Standard codes come first. What no standard code was found for is in a private scheme, which each object
that uses it declares in its Coding Scheme Identification Sequence (PS3.3 C.12.1.1.8).
"""

from __future__ import annotations

import hashlib

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from inference.case import Phase
from inference.results import Reason, ResponseCategory, Tissue
from reporting.uids import uid_of

PRIVATE_SCHEME = "99HEPATOCAST"
PRIVATE_SCHEME_UID = uid_of("coding scheme", PRIVATE_SCHEME)
PRIVATE_SCHEME_NAME = "Hepatocast forecast concepts"


def _private(value: str, meaning: str) -> Code:
    return Code(value, PRIVATE_SCHEME, meaning)


# ------------------------------------------------------------------ anatomy, findings, tissues

LIVER = Code("10200004", "SCT", "Liver")
MASS = Code("4147007", "SCT", "Mass")
LIVER_CELL_CARCINOMA = Code("109841003", "SCT", "Liver cell carcinoma")
ANATOMICAL_STRUCTURE = Code("123037004", "SCT", "Anatomical Structure")
ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")
NECROSIS = Code("6574001", "SCT", "Necrosis")
VIABLE_TUMOUR = _private("HC101", "Viable tumor")
LIPIODOL = _private("HC102", "Retained iodized oil")

TISSUES = {
    Tissue.LIVER: LIVER,
    Tissue.VIABLE: LIVER_CELL_CARCINOMA,
    Tissue.NECROSIS: NECROSIS,
    Tissue.LIPIODOL: LIPIODOL,
}

# ------------------------------------------------------------------ measurements

# OHIF tells a bidirectional measurement by exactly these meanings.
LONG_AXIS = Code("103339001", "SCT", "Long Axis")
SHORT_AXIS = Code("103340004", "SCT", "Short Axis")
VOLUME = Code("118565006", "SCT", "Volume")
SUM_OF_VOXELS = Code("126030", "DCM", "Sum of segmented voxel method for volume")
ESTIMATED = Code("414135002", "SCT", "Estimated")
PROBABILITY = Code("122157", "DCM", "Probability")
LOWER_95 = _private("HC201", "Lower limit of 95% interval")
UPPER_95 = _private("HC202", "Upper limit of 95% interval")
LOWER_80 = _private("HC203", "Lower limit of 80% interval")
UPPER_80 = _private("HC204", "Upper limit of 80% interval")
VIABLE_VOLUME = _private("HC205", "Viable tumor volume")
LIVER_VOLUME = _private("HC206", "Liver volume with lesions")
VIABLE_LONG_AXIS = _private("HC207", "Long axis of viable tumor")
VIABLE_SHORT_AXIS = _private("HC208", "Short axis of viable tumor")
SUM_OF_DIAMETERS = _private("HC209", "Sum of target lesion diameters")
CHANGE_OF_SUM = _private("HC210", "Change of sum of diameters from baseline")
CHANGE_OF_VIABLE_VOLUME = _private("HC211", "Change of viable tumor volume from baseline")
MEDIAN_SURVIVAL = _private("HC212", "Predicted median time")
RMST36 = _private("HC213", "Restricted mean time over 36 months")
RISK_SCORE = _private("HC214", "Risk score")
BENEFIT = _private("HC215", "Expected median survival benefit")
MODEL_PREDICTION = _private("HC217", "Model prediction with pointwise 95% limits")
CHANGE_OF_VOLUME = _private("HC218", "Change of volume from baseline")
RMST36_DIFFERENCE = _private("HC219", "Difference of restricted mean time over 36 months")
E_VALUE = _private("HC220", "E-value of the estimated benefit")
E_VALUE_OF_LIMIT = _private("HC221", "E-value of the limit nearer to no benefit")
FOLLOW_UP_END = _private("HC223", "End of follow-up of the predicted curve")
PROPENSITY = _private("HC222", "Probability that such a patient had the regimen")

MM = Code("mm", "UCUM", "millimeter")
ML = Code("mL", "UCUM", "milliliter")
PERCENT = Code("%", "UCUM", "percent")
ONE = Code("1", "UCUM", "no units")
MONTH = Code("mo", "UCUM", "month")
POINTS = Code("{points}", "UCUM", "points")
_UNITS = {code.value: code for code in (MM, ML, PERCENT, ONE, MONTH, POINTS)}

_ENDPOINTS = {
    "os": ("HC31", "overall survival"),
    "pfs": ("HC32", "progression-free survival"),
    "ttp": ("HC33", "freedom from progression"),
}


def survival_at(endpoint: str, months: int) -> Code:
    """Return the concept of a survival probability: end point ``os``, ``pfs`` or ``ttp``, at N months."""
    value, words = _ENDPOINTS[endpoint]
    return _private(f"{value}{months:02d}", f"Predicted {words} at {months} months")


def endpoint_assessment(endpoint: str) -> Code:
    """Return the concept that says whether an end point was assessed."""
    value, words = _ENDPOINTS[endpoint]
    return _private(f"{value}A", f"Assessment of {words}")


def confidence(benefit_months: float) -> Code:
    """Return the concept of the confidence that a benefit is larger than so many months."""
    asked = f"{benefit_months:g}"
    value = "HC216" if asked == "3" else f"HC216-{asked}"
    return _private(value[:16], f"Confidence of benefit above {asked} months")


def unit(ucum: str) -> Code:
    """Return a UCUM unit as a code; no unit is that of a number without one."""
    return _UNITS.get(ucum or "1", Code(ucum[:16], "UCUM", ucum.strip("{}")[:64]))


def named_concept(kind: str, name: str) -> Code:
    """Return a concept that only its name tells, such as a value of a site's own system.

    The code is a digest of kind and name, so the same name has the same code in every report.
    """
    return _private(f"N-{hashlib.sha256(f'{kind} {name}'.encode()).hexdigest()[:14].upper()}", name[:64])


# ------------------------------------------------------------------ response

CURRENT_RESPONSE = Code("112048", "DCM", "Current Response")
RESPONSE_METHOD = Code("112021", "DCM", "Response Evaluation Method")
RECIST_11 = Code("126081", "DCM", "RECIST 1.1")
MRECIST = _private("HC401", "mRECIST")
RESPONSE = {
    ResponseCategory.CR: Code("112041", "DCM", "Target Lesion Complete Response"),
    ResponseCategory.PR: Code("112042", "DCM", "Target Lesion Partial Response"),
    ResponseCategory.PD: Code("112043", "DCM", "Target Lesion Progressive Disease"),
    ResponseCategory.SD: Code("112044", "DCM", "Target Lesion Stable Disease"),
    ResponseCategory.NE: _private("HC402", "Response not evaluable"),
}

NOT_ASSESSED = _private("HC403", "Not assessed")
REASON_NOT_ASSESSED = _private("HC404", "Reason for not assessing")
REASONS = {
    Reason.PHASE_MISSING: _private("HC411", "Contrast phase missing"),
    Reason.REGIMEN_NOT_COVERED: _private("HC412", "Regimen not covered by the model"),
    Reason.CLINICAL_VALUES_MISSING: _private("HC413", "Clinical values missing"),
    Reason.ENDPOINT_NOT_COVERED: _private("HC414", "End point not covered by the model"),
    Reason.NOTHING_MEASURABLE: _private("HC415", "Nothing measurable"),
    Reason.COMPARISON_NOT_SUPPORTED: _private("HC416", "Comparison not supported"),
    Reason.BEYOND_FOLLOW_UP: _private("HC417", "Beyond follow-up"),
    Reason.TOO_FEW_EVENTS: _private("HC421", "Too few events under the regimen"),
    Reason.NO_OVERLAP: _private("HC422", "Treated groups do not overlap"),
    Reason.OUT_OF_DISTRIBUTION: _private("HC423", "Patient outside the cohort learned from"),
    Reason.NO_EFFECT_SHOWN: _private("HC424", "No effect of the regimens shown"),
    Reason.IMAGE_NOT_CHECKED: _private("HC425", "Generated image not outlined again"),
    Reason.MODEL_FAILED: _private("HC426", "Model failed or cannot be read"),
}

# ------------------------------------------------------------------ time, regimen, risk, document

BASELINE = Code("121079", "DCM", "Baseline")
PREDICTED_FOLLOW_UP = _private("HC501", "Predicted follow-up")
REGIMEN = _private("HC502", "Treatment regimen")
RISK = Code("121153", "DCM", "Lesion Risk")
RISK_GROUP = _private("HC503", "Risk group")
HIGH_RISK = Code("15508007", "SCT", "High risk")
LOW_RISK = Code("75976002", "SCT", "Low risk")
NOT_STRATIFIED = _private("HC504", "Patients are not stratified")
RISK_GROUPS = {"high": HIGH_RISK, "low": LOW_RISK, "not stratified": NOT_STRATIFIED}
PROGNOSIS = _private("HC505", "Predicted prognosis")
COMPARISON = _private("HC506", "Comparison of regimens")
RECOMMENDED_REGIMEN = _private("HC507", "Regimen with the longer expected survival")
NO_REGIMEN = _private("HC519", "No regimen is preferred")
DETAIL = _private("HC520", "Detail")
HELD_AGAINST = _private("HC521", "Regimen that it is held against")
BENEFIT_STATE = _private("HC522", "State of expected benefit")
LOWER_BOUND = _private("HC523", "Lower bound, median beyond follow-up")
SECOND_OPINION = _private("HC524", "Second opinion of another system")
OPINION_STATE = _private("HC525", "State of second opinion")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
CLINICAL_VALUE = _private("HC508", "Clinical value used")
CLINICAL_MISSING = _private("HC509", "Clinical values missing")
CLINICAL_SCORE = _private("HC510", "Clinical score")
ELIGIBILITY = _private("HC511", "Eligibility criterion")
WARNING = _private("HC512", "Warning")
STATEMENT = _private("HC513", "Statement on use")
MODEL_USED = _private("HC514", "Model used")
CLINICAL_CONTEXT = _private("HC515", "Clinical context of the forecast")
WHOLE_LIVER = _private("HC516", "Liver and total tumor burden")
MEDIAN_NOT_REACHED = _private("HC517", "Not reached within follow-up")
MEDIAN_STATE = _private("HC518", "State of predicted median")

IMAGING_MEASUREMENT_REPORT = Code("126000", "DCM", "Imaging Measurement Report")
ONCOLOGY_MEASUREMENT_REPORT = Code("126001", "DCM", "Oncology Measurement Report")
IMAGING_MEASUREMENTS = Code("126010", "DCM", "Imaging Measurements")
DEVICE = Code("121007", "DCM", "Device")
ENGLISH = Code("en-US", "RFC5646", "English (United States)")
DIAGNOSTIC_IMAGING_STUDY = Code("18748-4", "LN", "Diagnostic imaging study")
PROCEDURES = {
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
}

# ------------------------------------------------------------------ provenance

ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
FOLLOW_UP_SYNTHESIS = _private("HC601", "Predicted follow-up image synthesis")
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
SEGMENTATION_SOURCE = Code("113076", "DCM", "Segmentation")
ACQUISITION_EQUIPMENT = Code("109101", "DCM", "Acquisition Equipment")
SYNTHESIZING_EQUIPMENT = Code("109100", "DCM", "Synthesizing Equipment")
SOURCE_IMAGE_FOR_SEGMENTATION = SOURCE_IMAGE

PHASE_WORDS = {
    Phase.NATIVE: "native",
    Phase.ARTERIAL: "arterial",
    Phase.PORTAL_VENOUS: "portal venous",
    Phase.DELAYED: "delayed",
    Phase.T1: "T1",
    Phase.T1_ARTERIAL: "T1 arterial",
    Phase.T1_PORTAL_VENOUS: "T1 portal venous",
    Phase.T2: "T2",
    Phase.UNKNOWN: "phase unknown",
}


def regimen(regimen_id: str, name: str) -> Code:
    """Return a regimen of the site's table as a code; the value is at most 16 characters (SH)."""
    value = f"R-{regimen_id.upper()}"
    if len(value) > 16:
        value = f"R-{hashlib.sha256(regimen_id.encode()).hexdigest()[:14].upper()}"
    return _private(value, name)


def item(code: Code) -> Dataset:
    """Return a code as an item of a code sequence (PS3.3 table 8.8-1a)."""
    ds = Dataset()
    ds.CodeValue, ds.CodingSchemeDesignator, ds.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return ds


def private_scheme() -> Dataset:
    """Return the item that declares the private scheme."""
    ds = Dataset()
    ds.CodingSchemeDesignator = PRIVATE_SCHEME
    ds.CodingSchemeUID = PRIVATE_SCHEME_UID
    ds.CodingSchemeName = PRIVATE_SCHEME_NAME
    return ds
