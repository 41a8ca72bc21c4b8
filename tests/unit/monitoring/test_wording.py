"""Phrases that moved, and names by distinctive terms."""

from __future__ import annotations

from monitoring.signals import count_phrases, count_words
from monitoring.wording import distinctive_terms, moved_phrases

USUAL = ["where is my parcel", "my card was charged", "please reset my password"] * 40


def test_a_new_phrase_of_known_words_is_told() -> None:
    known = count_phrases(USUAL)
    texts = ["my password was charged"] * 15 + USUAL
    found = moved_phrases(known, known.total(), texts, complete=True)
    assert [entry["phrase"] for entry in found] == ["password was"]
    assert found[0]["texts"] == 15
    assert found[0]["baseline_per_10k"] == 0.0


def test_a_phrase_that_a_cut_list_lacks_is_rare_and_not_new() -> None:
    known = {"where is": 2000, "is my": 900}
    texts = ["so what now"] * 3 + ["where is my", "where is"] * 15
    assert {e["phrase"] for e in moved_phrases(known, 3000, texts, complete=True)} == {"so what", "what now"}
    assert moved_phrases(known, 3000, texts, complete=False) == []
    assert moved_phrases({}, 0, texts, complete=True) == []


def test_a_name_says_no_word_twice_and_none_that_all_texts_share() -> None:
    words = count_words(USUAL)
    own = ["where can i trade in my phone", "my trade in is late", "trade in please"] * 10
    terms = distinctive_terms(own, USUAL, words, words.total())
    assert terms[0] == "trade in"
    said = [word for term in terms for word in term.split()]
    assert len(said) == len(set(said))
    assert "my" not in said
    assert distinctive_terms(USUAL[:60], USUAL[60:], words, words.total()) == []
