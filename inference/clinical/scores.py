"""Clinical scores, as pure functions in the units of `inference.clinical.variables`.

Tumour diameters are in cm, as in the papers. Each function names the paper that its points and limits are
from. Which variables of a record a score needs is told by `inference.clinical.score_table`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from inference.clinical.variables import BILIRUBIN_UMOL_PER_MG_DL


def albi(albumin_g_l: float, bilirubin_umol_l: float) -> float:
    """Albumin-bilirubin score; lower is better.

    References
    ----------
    Johnson et al. 2015, J Clin Oncol 33:550.
    """
    return 0.66 * math.log10(bilirubin_umol_l) - 0.085 * albumin_g_l


def albi_grade(score: float) -> int:
    """ALBI grade 1 to 3.

    References
    ----------
    Johnson et al. 2015, J Clin Oncol 33:550.
    """
    return 1 if score <= -2.60 else 2 if score <= -1.39 else 3


def modified_albi_grade(score: float) -> str:
    """ALBI grade with grade 2 divided at -2.27 into 2a and 2b.

    References
    ----------
    Hiraoka et al. 2017, Liver Cancer 6:325.
    """
    grade = albi_grade(score)
    if grade != 2:
        return str(grade)
    return "2a" if score < -2.27 else "2b"


def ez_albi(albumin_g_l: float, bilirubin_umol_l: float) -> float:
    """EZ-ALBI: bilirubin in mg/dL minus nine times albumin in g/dL.

    References
    ----------
    Kariyama et al. 2020, Liver Cancer 9:734 (PMC7768152).
    """
    return bilirubin_umol_l / BILIRUBIN_UMOL_PER_MG_DL - 9.0 * albumin_g_l / 10.0


def _points(value: float, two_from: float, three_above: float) -> int:
    return 1 if value < two_from else 2 if value <= three_above else 3


_ASCITES = {"none": 1, "slight": 2, "moderate_or_severe": 3}
_ENCEPHALOPATHY = {"none": 1, "I-II": 2, "III-IV": 3}


def child_pugh(
    bilirubin_umol_l: float, albumin_g_l: float, inr: float, ascites: str, encephalopathy: str
) -> int:
    """Child-Pugh score, 5 to 15; ascites and encephalopathy are categories of the variable table.

    References
    ----------
    Pugh et al. 1973, Br J Surg 60:646, with INR in place of the prothrombin time.
    """
    albumin = 1 if albumin_g_l > 35 else 2 if albumin_g_l >= 28 else 3
    return (
        _points(bilirubin_umol_l, 34, 51)
        + albumin
        + _points(inr, 1.7, 2.3)
        + _ASCITES[ascites]
        + _ENCEPHALOPATHY[encephalopathy]
    )


def child_pugh_class(score: float) -> str:
    """Child-Pugh class of a score: A 5-6, B 7-9, C 10-15.

    References
    ----------
    Pugh et al. 1973, Br J Surg 60:646.
    """
    return "A" if score <= 6 else "B" if score <= 9 else "C"


@dataclass(frozen=True, slots=True)
class Burden:
    """Tumour burden inside the liver: number of tumours and the diameter of the largest in cm."""

    number: int
    largest_cm: float


def up_to_seven(burden: Burden) -> bool:
    """Whether number + largest diameter in cm is at most 7; it holds without vascular invasion only.

    References
    ----------
    Mazzaferro et al. 2009, Lancet Oncol 10:35.
    """
    return burden.number + burden.largest_cm <= 7


def up_to_eleven(burden: Burden) -> bool:
    """Whether number + largest diameter in cm is at most 11.

    References
    ----------
    Cancer Imaging 2023, 10.1186/s40644-023-00575-6, table 1.
    """
    return burden.number + burden.largest_cm <= 11


def six_and_twelve(burden: Burden) -> str:
    """Six-and-twelve group: '<=6', '>6-12' or '>12'.

    References
    ----------
    Wang et al. 2019, J Hepatol 70:893.
    """
    total = burden.number + burden.largest_cm
    return "<=6" if total <= 6 else ">6-12" if total <= 12 else ">12"


def tumour_burden_score(burden: Burden) -> float:
    """Tumour burden score: sqrt(largest diameter in cm squared + number squared).

    References
    ----------
    Tsilimigras et al. 2020, Br J Surg 107:854.
    """
    return math.hypot(burden.largest_cm, burden.number)


def tumour_burden_group(score: float) -> str:
    """Group of a tumour burden score: low below 3.36, high above 13.74.

    References
    ----------
    Tsilimigras et al. 2020, Br J Surg 107:854.
    """
    return "low" if score < 3.36 else "medium" if score <= 13.74 else "high"


def fib4(age_years: float, ast_u_l: float, platelets_e9_l: float, alt_u_l: float) -> float:
    """FIB-4 index of liver fibrosis.

    References
    ----------
    Sterling et al. 2006, Hepatology 43:1317.
    """
    return age_years * ast_u_l / (platelets_e9_l * math.sqrt(alt_u_l))


def _letter(points: Sequence[bool]) -> str:
    return "ABCD"[min(sum(points), 3)]


def hap(albumin_g_l: float, bilirubin_umol_l: float, afp_ng_ml: float, burden: Burden) -> str:
    """Hepatoma arterial-embolisation prognostic score, A to D.

    References
    ----------
    Kadalayil et al. 2013, Ann Oncol 24:2565.
    """
    return _letter((albumin_g_l < 36, bilirubin_umol_l > 17, afp_ng_ml > 400, burden.largest_cm > 7))


def modified_hap2(albumin_g_l: float, bilirubin_umol_l: float, afp_ng_ml: float, burden: Burden) -> str:
    """mHAP-II: HAP with a point for two or more tumours, A to D.

    References
    ----------
    Park et al. 2016, Liver Int 36:100.
    """
    points = (albumin_g_l < 36, bilirubin_umol_l > 17, afp_ng_ml > 400, burden.largest_cm > 7)
    return _letter((*points, burden.number >= 2))


def albi_tae(albi_score: float, afp_ng_ml: float, burden: Burden) -> str:
    """ALBI-TAE group A to D: ALBI grade 2-3, AFP above 200, beyond up-to-11.

    References
    ----------
    Cancer Imaging 2023, 10.1186/s40644-023-00575-6, table 1.
    """
    return _letter((albi_grade(albi_score) >= 2, afp_ng_ml > 200, not up_to_eleven(burden)))


@dataclass(frozen=True, slots=True)
class Spread:
    """Macroscopic vascular invasion and extrahepatic spread (nodes or metastases)."""

    vascular: bool
    extrahepatic: bool


def bclc_2022(ecog: int, child_pugh_class_: str, burden: Burden, spread: Spread) -> str:
    """BCLC stage 0, A, B, C or D. Child-Pugh C counts as end-stage liver function.

    References
    ----------
    Reig et al. 2022, J Hepatol 76:681.
    """
    if ecog >= 3 or child_pugh_class_ == "C":
        return "D"
    if spread.vascular or spread.extrahepatic or ecog >= 1:
        return "C"
    if burden.number == 1:
        return "0" if burden.largest_cm <= 2 else "A"
    return "A" if burden.number <= 3 and burden.largest_cm <= 3 else "B"


def cnlc_2022(ecog: int, child_pugh_class_: str, burden: Burden, spread: Spread) -> str:
    """CNLC stage Ia to IV.

    References
    ----------
    Zhou et al. 2023, Liver Cancer 12:405.
    """
    if ecog >= 3 or child_pugh_class_ == "C":
        return "IV"
    if spread.extrahepatic:
        return "IIIb"
    return "IIIa" if spread.vascular else _cnlc_by_burden(burden)


def _cnlc_by_burden(burden: Burden) -> str:
    if burden.number >= 4:
        return "IIb"
    if burden.number == 1:
        return "Ia" if burden.largest_cm <= 5 else "Ib"
    return "Ib" if burden.largest_cm <= 3 else "IIa"


def milan(burden: Burden) -> bool:
    """Whether a single tumour is at most 5 cm, or at most three are at most 3 cm each.

    References
    ----------
    Mazzaferro et al. 1996, N Engl J Med 334:693.
    """
    return burden.largest_cm <= (5 if burden.number == 1 else 3) and burden.number <= 3


@dataclass(frozen=True, slots=True)
class _Substage:
    """A row of the proposal: Child-Pugh points from - to, beyond up-to-seven or not, highest ECOG."""

    name: str
    points: tuple[int, int]
    beyond: tuple[bool, ...]
    ecog: int


_BOLONDI = (
    _Substage("B1", (5, 7), (False,), 0),
    _Substage("B2", (5, 6), (True,), 0),
    _Substage("B3", (7, 7), (True,), 0),
    _Substage("B4", (8, 9), (False, True), 1),
)


def bolondi(ecog: int, child_pugh_score: float, burden: Burden, spread: Spread) -> str:
    """Substage B1 to B4 of the intermediate stage, or 'none'.

    'none' means that no row of the proposal fits: within Milan, vascular invasion or extrahepatic spread,
    Child-Pugh 10 or more, ECOG above 1, or ECOG 1 with Child-Pugh 5 to 7. The proposal is older than BCLC
    2022: a single tumour above 5 cm belongs to it, though BCLC 2022 calls it A.

    References
    ----------
    Bolondi et al. 2012, Semin Liver Dis 32:348.
    """
    if spread.vascular or spread.extrahepatic or milan(burden):
        return "none"
    beyond = not up_to_seven(burden)
    for row in _BOLONDI:
        if row.points[0] <= child_pugh_score <= row.points[1] and beyond in row.beyond and ecog <= row.ecog:
            return row.name
    return "none"
