"""Texts as vectors: near texts are near, negation turns them away, names leave no trace."""

from __future__ import annotations

import numpy as np
import pytest

from inference.clinical import text_encoder
from inference.clinical.text_encoder import (
    WIDTH,
    HashedNgrams,
    checked_vector,
    encoder_of,
    scrubbed,
    words,
)
from inference.errors import ModelError

ENCODER = HashedNgrams()


def similarity(a: str, b: str) -> float:
    return float(ENCODER.encode(a) @ ENCODER.encode(b))


def test_vector_has_length_one_and_is_always_the_same() -> None:
    vector = ENCODER.encode("Tumour thrombus in the right portal vein.")
    assert vector.shape == (WIDTH,)
    assert np.linalg.norm(vector) == pytest.approx(1)
    np.testing.assert_array_equal(vector, ENCODER.encode("tumour  THROMBUS in the right portal vein"))
    # Noted once from this implementation: what was learned from vectors needs the same ones for ever.
    assert float(vector @ np.arange(WIDTH)) == pytest.approx(20.890530960999165, abs=1e-9)


def test_text_without_words_is_zero() -> None:
    assert not ENCODER.encode(" ... ").any()


def test_near_texts_are_near() -> None:
    thrombus = "tumour thrombus in the portal vein"
    assert similarity(thrombus, "thrombosis of the portal veins by tumour") > 0.5
    assert abs(similarity(thrombus, "patient discharged with oral analgesics")) < 0.3


def test_negation_turns_a_finding_away() -> None:
    assert similarity("portal vein thrombus", "no portal vein thrombus") < 0.3
    assert list(words("未见门静脉癌栓，肝癌")) == ["!门静脉癌栓", "肝癌"]
    assert similarity("没有门静脉癌栓", "未见门静脉癌栓") > 0.9
    assert similarity("门静脉癌栓", "未见门静脉癌栓") < 0.6


def test_negation_ends_with_its_clause() -> None:
    assert list(words("No ascites; thrombus seen")) == ["!ascites", "thrombus", "seen"]
    assert list(words("no ascites but thrombus")) == ["!ascites", "thrombus"]
    assert list(words("no a b c d e f")) == ["!a", "!b", "!c", "!d", "!e", "f"]


def test_projection_keeps_angles() -> None:
    """Unrelated bags are at right angles within a few times 1 / sqrt(256)."""
    random = np.random.default_rng(3)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    texts = [" ".join("".join(random.choice(letters, 7)) for _ in range(40)) for _ in range(40)]
    vectors = np.stack([ENCODER.encode(t) for t in texts])
    apart = (vectors @ vectors.T)[np.triu_indices(40, 1)]
    assert apart.std() == pytest.approx(1 / 16, rel=0.15)
    assert abs(apart.mean()) < 0.02


@pytest.mark.parametrize(
    ("text", "identifiers", "left"),
    [
        ("Doe John, MRN 4711: thrombus", ("DOE^JOHN", "4711"), "thrombus"),
        ("Mr. O'Neil was seen", ("O'Neil^Pat",), "seen"),
        ("患者王小明肝癌", ("Wang^XiaoMing=王^小明",), "肝癌"),
    ],
)
def test_names_and_numbers_are_removed(text: str, identifiers: tuple[str, ...], left: str) -> None:
    plain = scrubbed(text, identifiers)
    assert left in plain
    for secret in ("Doe", "John", "4711", "O'Neil", "王小明"):
        assert secret not in plain


def test_names_leave_no_trace_in_the_vector() -> None:
    one = ENCODER.encode(scrubbed("Doe, John, born 1950: thrombus", ["DOE^JOHN"]))
    other = ENCODER.encode(scrubbed("Roe, Mary, born 1961: thrombus", ["ROE^MARY"]))
    np.testing.assert_array_equal(one, other)


def test_words_within_other_words_stay() -> None:
    assert scrubbed("allele", ["Al^Le"]) == "allele"


# ------------------------------------------------------------------ a site's own


class _Entry:
    def __init__(self, name: str, loaded: object) -> None:
        self.name = name
        self._loaded = loaded

    def load(self) -> object:
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


def test_encoder_of_a_site(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [_Entry("ours", HashedNgrams), _Entry("broken", ImportError("no weights"))]

    def installed(group: str, name: str | None = None) -> list[_Entry]:
        assert group == "hepatocast.text_encoders"
        return [e for e in entries if name in (None, e.name)]

    monkeypatch.setattr(text_encoder, "entry_points", installed)
    assert isinstance(encoder_of("ours"), HashedNgrams)
    with pytest.raises(ModelError, match="'broken' cannot be loaded"):
        encoder_of("broken")
    with pytest.raises(
        ModelError, match="No text encoder is called 'theirs'; installed are: hashed n-grams, br"
    ):
        encoder_of("theirs")


def test_vectors_of_a_site_are_checked() -> None:
    assert len(checked_vector([0.0] * WIDTH, "ours")) == WIDTH
    for wrong in ([0.0] * 3, [float("nan")] * WIDTH):
        with pytest.raises(ModelError, match="'ours' did not give 256 finite numbers"):
            checked_vector(wrong, "ours")
