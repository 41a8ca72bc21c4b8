"""The demo's material: parts that never overlap, shares as told, and a corpus large and honest enough for the story."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.core.datafile import read_columns, text_column
from monitoring.core.errors import InvalidInput
from service.demo.corpus import (
    LARGEST_SPLITS,
    MOST_TRAFFIC,
    OWN_CORPUS,
    SMALLEST_TRAFFIC,
    SPLITS,
    STEADY_SHARE,
    Script,
    make_script,
    own_script,
    script_from_files,
)

Rows = list[tuple[str, str]]


def rows_of(name: str, n: int, *, labels: int = 3) -> Rows:
    return [(f"{name} {number}", f"{name} label {number % labels}") for number in range(n)]


def texts_of(script: Script) -> list[str]:
    sent = [message.text for message in (*script.steady, *script.drifted)]
    return [text for text, _, _ in script.training] + sent


@pytest.fixture(scope="module")
def corpus() -> list[tuple[str, str, str]]:
    """The shipped corpus: text, label, period."""
    table = read_columns(OWN_CORPUS, ["text", "label", "period"])
    return list(zip(*(text_column(table, name) for name in ("text", "label", "period")), strict=True))


def test_the_shipped_corpus_is_large_enough(corpus: list[tuple[str, str, str]]) -> None:
    base = {label for _, label, period in corpus if period == "base"}
    late = {label for _, label, period in corpus if period == "late"}
    assert {period for _, _, period in corpus} == {"base", "late"}
    assert len(base) >= 12
    assert len(late - base) >= 3
    assert sum(period == "base" for _, _, period in corpus) >= 4_000


def test_the_shipped_corpus_says_nothing_twice(corpus: list[tuple[str, str, str]]) -> None:
    counted = Counter(text for text, _, _ in corpus)
    assert [text for text, n in counted.items() if n > 1] == []


def test_every_intent_of_the_shipped_corpus_can_be_learnt_and_tested(corpus: list[tuple[str, str, str]]) -> None:
    assert min(Counter(label for _, label, _ in corpus).values()) >= 50


def test_the_own_script_tells_the_story(corpus: list[tuple[str, str, str]]) -> None:
    script = own_script(np.random.default_rng(1))
    late = {text for text, _, period in corpus if period == "late"}
    taught = {label for _, label, split in script.training if split == "train"}
    assert len(texts_of(script)) == len(set(texts_of(script)))
    assert {split for _, _, split in script.training} == set(SPLITS)
    assert not late & {text for text, _, _ in script.training}
    assert not late & {message.text for message in script.steady}
    assert 0.4 < sum(message.text in late for message in script.drifted) / len(script.drifted) < 0.7
    assert len({message.label for message in script.drifted} - taught) >= 3
    assert {message.label for message in script.steady} <= taught


def test_the_same_seed_deals_the_same_script() -> None:
    assert own_script(np.random.default_rng(1)) == own_script(np.random.default_rng(1))
    assert own_script(np.random.default_rng(1)) != own_script(np.random.default_rng(2))


@settings(max_examples=15)
@given(
    base=st.integers(4_500, 9_000),
    late=st.integers(1_500, 4_000),
    late_share=st.floats(0.2, 0.7),
    seed=st.integers(0, 1 << 30),
)
def test_parts_are_disjoint_and_shares_as_told(base: int, late: int, late_share: float, seed: int) -> None:
    script = make_script(
        rows_of("base", base), rows_of("late", late), late_share=late_share, rng=np.random.default_rng(seed)
    )
    assert len(texts_of(script)) == len(set(texts_of(script)))
    splits = Counter(split for _, _, split in script.training)
    assert splits == {name: min(int(share * base), LARGEST_SPLITS[name]) for name, share in SPLITS.items()}
    traffic = min(base - sum(splits.values()), MOST_TRAFFIC)
    assert len(script.steady) == int(STEADY_SHARE * traffic)
    fresh = sum(message.text.startswith("late") for message in script.drifted)
    assert abs(fresh - late_share * len(script.drifted)) <= 0.5 + 1e-6
    assert not any(message.text.startswith("late") for message in script.steady)


def test_a_message_of_both_periods_or_given_twice_is_used_once() -> None:
    base, late = rows_of("base", 5_000), rows_of("late", 2_000)
    script = make_script([*base, *base], [*late, *base[:500], *late], late_share=0.5, rng=np.random.default_rng(1))
    assert len(texts_of(script)) == len(set(texts_of(script)))
    labels = dict([*base, *late])
    assert all(labels[message.text] == message.label for message in (*script.steady, *script.drifted))


def test_customers_of_the_two_phases_are_different_people_who_mostly_write_once() -> None:
    script = own_script(np.random.default_rng(1))
    steady, drifted = ({message.customer for message in part} for part in (script.steady, script.drifted))
    assert not steady & drifted
    assert 0.5 * len(script.drifted) < len(drifted) < 0.8 * len(script.drifted)


@pytest.mark.parametrize(("base", "late"), [(100, 5_000), (5_000, 100), (0, 0)])
def test_files_too_small_for_a_story_are_told_with_what_is_needed(base: int, late: int) -> None:
    with pytest.raises(InvalidInput, match=f"at least {SMALLEST_TRAFFIC} and {3 * SMALLEST_TRAFFIC}: bring more rows"):
        make_script(rows_of("base", base), rows_of("late", late), late_share=0.5, rng=np.random.default_rng(1))


def test_a_users_own_files_make_a_script_too(tmp_path: Path) -> None:
    for name, rows in (("base", rows_of("base", 5_000)), ("late", rows_of("late", 2_000))):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("message", "intent"), *rows])
    script = script_from_files(
        tmp_path / "base.csv", tmp_path / "late.csv", text="message", label="intent", rng=np.random.default_rng(1)
    )
    assert len(script.drifted) >= 3 * SMALLEST_TRAFFIC
    with pytest.raises(InvalidInput, match="no column 'text'"):
        script_from_files(
            tmp_path / "base.csv", tmp_path / "late.csv", text="text", label="intent", rng=np.random.default_rng(1)
        )


def test_the_training_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    script = own_script(np.random.default_rng(1))
    script.write_training(tmp_path / "training.csv")
    table = read_columns(tmp_path / "training.csv", ["text", "label", "split"])
    columns = (text_column(table, name) for name in ("text", "label", "split"))
    assert list(zip(*columns, strict=True)) == list(script.training)
