"""A reading set is blinded; sheets are checked; the statistics of a study by hand."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from inference.errors import TrainingDataError
from inference.evaluation.reading_set import ItemOrigin, ReadingItem, export_reading_set
from inference.evaluation.reading_sheets import analyse, read_sheets, write_reading_figures
from inference.randomness import RandomStreams


def items(count=20, slices=1):
    ramp = np.linspace(0, 1, 20) * np.ones((2, slices, 24, 1))
    return [
        ReadingItem(
            (ramp * (i + 1) / count).astype(np.float32),
            ItemOrigin.VIRTUAL if i % 2 else ItemOrigin.REAL,
            f"P{i:03d}",
            "tace",
            "3",
        )
        for i in range(count)
    ]


@pytest.fixture
def reading(tmp_path):
    sheets = export_reading_set(items(), tmp_path / "set", tmp_path / "key.csv", RandomStreams(1))
    return tmp_path, sheets


def rows(path):
    with path.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def fill(sheet, score_of):
    found = rows(sheet)
    for row in found:
        row["score"] = score_of(row["item"])
    write(sheet, found)


def write(sheet, found):
    with sheet.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, found[0])
        writer.writeheader()
        writer.writerows(found)


def test_nothing_that_readers_get_tells_the_origin(reading):
    folder, sheets = reading
    given = folder / "set"
    key = {r["item"]: r for r in rows(folder / "key.csv")}
    for path in given.rglob("*"):
        if path.is_file():
            assert path.stat().st_mtime == 946_684_800
            content = path.read_bytes()
            assert not any(r["source"].encode() in content for r in key.values())
            assert b"virtual" not in content.replace(b"computed", b"")
    pictures = sorted((given / "pictures").iterdir())
    assert {p.stem for p in pictures} == set(key)
    looks = set()
    for picture in pictures:
        with Image.open(picture) as opened:
            looks.add((opened.size, opened.mode, str(opened.info)))
    assert looks == {((288, 582), "L", "{}")}
    assert not any("key" in p.name for p in given.rglob("*"))


def test_order_and_codes_do_not_follow_the_origin(tmp_path):
    # Over many sets, the codes and places of virtual items are spread as those of real ones.
    places, codes = [], []
    for seed in range(20):
        out = tmp_path / str(seed)
        sheets = export_reading_set(items(8), out / "set", out / "key.csv", RandomStreams(seed))
        key = {r["item"]: r["origin"] for r in rows(out / "key.csv")}
        order = [r["item"] for r in rows(sheets[0])]
        places += [i for i, item in enumerate(order) if key[item] == "virtual"]
        by_code = sorted(key)
        codes += [i for i, item in enumerate(by_code) if key[item] == "virtual"]
    for found in (places, codes):
        assert np.mean(found) == pytest.approx(3.5, abs=4 * np.sqrt(63 / 12 / 80))


def test_every_reader_has_all_items_in_an_order_of_their_own(reading):
    _, sheets = reading
    orders = [[r["item"] for r in rows(s)] for s in sheets]
    assert len(sheets) == 3
    assert all(sorted(o) == sorted(orders[0]) for o in orders)
    assert len({tuple(o) for o in orders}) == 3
    assert all(r["score"] == "" for s in sheets for r in rows(s))


def test_the_same_seed_gives_the_same_set(tmp_path):
    for name in ("a", "b"):
        export_reading_set(items(), tmp_path / name, tmp_path / f"{name}.csv", RandomStreams(5))
    first = {p.name: p.read_bytes() for p in (tmp_path / "a").rglob("*") if p.is_file()}
    assert first == {p.name: p.read_bytes() for p in (tmp_path / "b").rglob("*") if p.is_file()}
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert (tmp_path / "a.csv").stat().st_mode & 0o077 == 0


def test_sets_that_would_unblind_are_refused(tmp_path):
    out = tmp_path / "set"
    with pytest.raises(TrainingDataError, match="key must not lie"):
        export_reading_set(items(), out, out / "key.csv", RandomStreams(0))
    with pytest.raises(TrainingDataError, match="real and virtual"):
        export_reading_set(items()[::2], out, tmp_path / "key.csv", RandomStreams(0))
    with pytest.raises(TrainingDataError, match="different numbers of slices"):
        export_reading_set([*items(4), *items(2, 2)], out, tmp_path / "key.csv", RandomStreams(0))
    assert not out.exists()
    export_reading_set(items(), out, tmp_path / "key.csv", RandomStreams(0))
    with pytest.raises(TrainingDataError, match="not empty"):
        export_reading_set(items(), out, tmp_path / "key2.csv", RandomStreams(0))


# ------------------------------------------------------------------ sheets


@pytest.fixture
def filled(reading):
    folder, sheets = reading
    rng = np.random.default_rng(3)
    for sheet in sheets:
        fill(sheet, lambda _item: str(int(rng.integers(1, 6))))
    return folder, sheets


def spoil(sheet, change):
    found = rows(sheet)
    write(sheet, change(found))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: [{**r[0], "score": ""}, *r[1:]], r"reader_2.csv, row 2: there is no score"),
        (lambda r: [{**r[0], "score": "6"}, *r[1:]], r"row 2: 6 is not a whole number from 1 to 5"),
        (lambda r: [{**r[0], "score": "3.5"}, *r[1:]], r"3.5 is not a whole number"),
        (lambda r: [{**r[0], "score": "good"}, *r[1:]], r"good is not a whole number"),
        (lambda r: [*r, r[0]], r"row 22: item \d+ was scored before"),
        (lambda r: r[1:], r"reader_2.csv: item \d+ is missing"),
        (lambda r: [{**r[0], "item": "999"}, *r[1:]], r"item 999 is not in the key; .* is missing"),
    ],
)
def test_a_sheet_that_cannot_be_used_names_its_row(filled, change, reason):
    folder, sheets = filled
    spoil(sheets[1], change)
    with pytest.raises(TrainingDataError, match=reason):
        read_sheets(sheets, folder / "key.csv")


def test_sheets_saved_by_a_spreadsheet_are_read(filled):
    folder, sheets = filled
    expected = read_sheets(sheets, folder / "key.csv").scores
    text = sheets[0].read_text(encoding="utf-8").replace(",", ";").replace("\n", "\r\n")
    sheets[0].write_text("\ufeff" + text, encoding="utf-8", newline="")
    np.testing.assert_array_equal(read_sheets(sheets, folder / "key.csv").scores, expected)


def test_a_file_that_is_no_sheet_and_one_sheet_twice_are_refused(filled):
    folder, sheets = filled
    with pytest.raises(TrainingDataError, match="lacks the columns score"):
        read_sheets([folder / "key.csv"], folder / "key.csv")
    with pytest.raises(TrainingDataError, match="a name of its own"):
        read_sheets([sheets[0], sheets[0]], folder / "key.csv")
    with pytest.raises(TrainingDataError, match="cannot be read"):
        read_sheets([folder / "absent.csv"], folder / "key.csv")


# ------------------------------------------------------------------ statistics


def test_figures_of_a_study(filled):
    folder, sheets = filled
    readings = read_sheets(sheets, folder / "key.csv")
    found = analyse(readings, RandomStreams(0))
    scores, virtual = readings.scores, readings.virtual
    plausible = scores >= 4
    for index, reader in enumerate(found.readers):
        successes = int(plausible[virtual, index].sum())
        assert (reader.virtual.successes, reader.virtual.n) == (successes, 10)
        assert binom.sf(successes - 1, 10, reader.virtual.lower) == pytest.approx(0.025, abs=1e-9)
        expected = plausible[virtual, index].mean() - plausible[~virtual, index].mean()
        assert reader.difference.value == pytest.approx(expected)
        assert reader.auroc.value == pytest.approx(roc_auc_score(~virtual, scores[:, index]))
    assert found.auroc.value == pytest.approx(roc_auc_score(~virtual, scores.mean(axis=1)))
    assert found.share_virtual.value == pytest.approx(plausible[virtual].mean())
    assert found.kappa.lower < found.kappa.value < found.kappa.upper
    assert abs(found.alpha.value) < 0.4
    text, data = write_reading_figures(folder / "figures", found)
    assert "Krippendorff" in text.read_text(encoding="utf-8")
    assert data.read_text(encoding="utf-8").startswith("{")


def test_readers_who_agree_and_can_tell_are_seen_to(reading):
    folder, sheets = reading
    key = {r["item"]: r["origin"] for r in rows(folder / "key.csv")}
    for sheet in sheets:
        fill(sheet, lambda item: "2" if key[item] == "virtual" else "5")
    found = analyse(read_sheets(sheets, folder / "key.csv"), RandomStreams(0))
    assert (found.kappa.value, found.alpha.value, found.icc.value) == (1.0, 1.0, 1.0)
    assert (found.auroc.value, found.share_difference.value) == (1.0, -1.0)
