"""From the text of a report to a vector: an encoder without weights, and the seam for a site's own.

Only the vector is kept. It is no anonymisation in the sense of the law: a vector that is known to be of a
certain text can be recognised. Names and numbers of the patient are therefore removed before (`scrubbed`).
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import entry_points
from typing import Protocol

import numpy as np

from inference.errors import ModelError
from inference.results import FloatArray

GROUP = "hepatocast.text_encoders"
"""Entry points by which a package of the site registers encoders: a callable without arguments for each."""
WIDTH = 256
NGRAMS = (3, 4, 5)

NEGATIONS = ("no", "not", "without", "absent", "denies", "negative", "kein", "keine", "ohne", "sans", "aucun")
"""Words that negate the words after them, up to `SCOPE` words or the end of the clause."""
CHINESE_NEGATIONS = ("未见", "未及", "未发现", "没有", "无")
SCOPE = 5

_CLAUSE = re.compile(r"[.;:!?。；：！？\n]|\bbut\b|\baber\b|\bmais\b")
_IDEOGRAPHS = re.compile(r"[\u3400-\u9fff\uac00-\ud7af]")
_WORD = re.compile(r"[^\W\d_]+|\d+", re.UNICODE)
_CHINESE = re.compile(f"({'|'.join(CHINESE_NEGATIONS)})([\\u4e00-\\u9fff]{{1,8}})")


class TextEncoder(Protocol):
    """Maps a text to a vector of `WIDTH` numbers; the same text always gives the same vector."""

    @property
    def name(self) -> str:
        """Name and version: vectors of different names are never compared."""
        ...

    def encode(self, text: str) -> FloatArray:
        """Return the vector, shape (256,), length 1, or 0 for a text without words."""
        ...


class HashedNgrams:
    """Bag of character n-grams under a fixed random projection to 256 numbers.

    Each word, in lower case and with a mark where it is negated, is cut into the n-grams of 3 to 5
    characters of the word in brackets. The BLAKE2b digest of an n-gram, 256 bits, is its row of the
    projection: a bit is +1 or -1. The vector is the sum of the rows, each times 1 + log(count), made length
    1. Angles between such bags are kept within about 1 / sqrt(256) (Achlioptas 2003, J Comput Syst Sci
    66:671: a projection of random signs).

    It knows no meaning, only spelling: 'portal thrombus' is near 'thrombus of the portal vein', not near
    'occlusion'. What a digit is counts, which one does not.
    """

    name = "hashed n-grams 1"

    def encode(self, text: str) -> FloatArray:
        """Return the vector of a text."""
        counts = Counter(gram for word in words(text) for gram in _ngrams(word))
        total = np.zeros(WIDTH)
        for gram in sorted(counts):
            total += (1.0 + math.log(counts[gram])) * _signs(gram)
        length = float(np.linalg.norm(total))
        return total if length == 0 else total / length


def words(text: str) -> Iterator[str]:
    """Yield the words of a text in lower case, those in the scope of a negation with '!' before them."""
    normal = unicodedata.normalize("NFKC", text).casefold()
    normal = _CHINESE.sub(r" no \2 . ", normal)
    for clause in _CLAUSE.split(normal):
        left = 0
        for word in _WORD.findall(clause):
            if word in NEGATIONS:
                left = SCOPE
                continue
            shown = "0" if word.isdecimal() else word
            yield f"!{shown}" if left else shown
            left = max(0, left - 1)


def _ngrams(word: str) -> Iterator[str]:
    """Yield the n-grams of a word; each keeps the mark of a negation."""
    mark, plain = ("!", word[1:]) if word.startswith("!") else ("", word)
    bracketed = f"<{plain}>"
    for n in NGRAMS:
        for start in range(max(1, len(bracketed) - n + 1)):
            yield mark + bracketed[start : start + n]


def _signs(gram: str) -> FloatArray:
    digest = hashlib.blake2b(gram.encode(), digest_size=WIDTH // 8).digest()
    bits = np.unpackbits(np.frombuffer(digest, dtype=np.uint8))
    return np.asarray(2.0 * bits - 1.0)


def scrubbed(text: str, identifiers: Iterable[str]) -> str:
    """Return a text without the words of names and identifiers, and with 0 for every run of digits.

    Parameters
    ----------
    identifiers : iterable of str
        Names (components separated by ^ or =) and numbers of the patient, the study and physicians.
    """
    parts = {part for name in identifiers for part in _parts(name) if len(part) > 1}
    for part in sorted(parts, key=lambda p: (-len(p), p)):
        # Chinese and Japanese have no spaces between words, and so no bounds of a name.
        pattern = re.escape(part) if _IDEOGRAPHS.search(part) else rf"(?<!\w){re.escape(part)}(?!\w)"
        text = re.sub(pattern, " ", text, flags=re.IGNORECASE)
    return re.sub(r"\d+", "0", text)


def _parts(name: str) -> Iterator[str]:
    """Yield the words of a name, and those of each of its writings as one word."""
    for writing in re.split(r"[=\\]", name):
        found = [part for part in re.split(r"[\s^,;]+", writing) if part]
        yield from found
        yield "".join(found)


def encoder_of(name: str) -> TextEncoder:
    """Return the encoder that the configuration names.

    Raises
    ------
    ModelError
        No installed package registers it, or it cannot be loaded.
    """
    if name == "hashed n-grams":
        return HashedNgrams()
    found = tuple(entry_points(group=GROUP, name=name))
    if not found:
        known = ", ".join(["hashed n-grams", *sorted(e.name for e in entry_points(group=GROUP))])
        raise ModelError(f"No text encoder is called {name!r}; installed are: {known}.")
    try:
        encoder: TextEncoder = found[0].load()()
    except (ImportError, AttributeError, OSError, TypeError) as error:
        raise ModelError(f"The text encoder {name!r} cannot be loaded ({type(error).__name__}).") from error
    return encoder


def checked_vector(vector: Sequence[float] | FloatArray, name: str) -> tuple[float, ...]:
    """Return a vector as numbers, after a look at what an encoder of the site gave.

    Raises
    ------
    ModelError
        It has another shape than (256,), or a number is not finite.
    """
    array = np.asarray(vector, dtype=np.float64)
    if array.shape != (WIDTH,) or not np.isfinite(array).all():
        raise ModelError(f"The text encoder {name!r} did not give {WIDTH} finite numbers.")
    return tuple(float(x) for x in array)
