"""Shapes and ranges of the signals, whatever the model says; and a reference that is read as it was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from monitoring.core.errors import BrokenBundle
from monitoring.core.signals import PROJECTED, SIGNALS, Reference, read_signals, unit_length

Matrix = NDArray[np.float32]
numbers = st.floats(-1e4, 1e4, width=32)


def reference(rng: np.random.Generator, *, size: int = 40, classes: int = 3, rows: int = 60) -> Reference:
    embeddings = rng.normal(size=(rows, size)).astype(np.float32)
    return learn(embeddings, np.arange(rows) % classes, classes)


def learn(embeddings: Matrix, labels: NDArray[np.int64], classes: int) -> Reference:
    return Reference.fit(embeddings, labels, [[1, 2]] * len(labels), classes=classes, vocabulary=10)


@settings(max_examples=40)
@given(data=st.data(), rows=st.integers(1, 6), classes=st.integers(1, 5), temperature=st.floats(0.05, 20))
def test_signals_stay_in_their_ranges(data: st.DataObject, rows: int, classes: int, temperature: float) -> None:
    learnt = reference(np.random.default_rng(1), size=7, classes=classes)
    logits: Matrix = data.draw(arrays(np.float32, (rows, classes), elements=numbers))
    embeddings: Matrix = data.draw(arrays(np.float32, (rows, 7), elements=numbers))
    read = read_signals(
        logits, embeddings, [range(row) for row in range(rows)], temperature=temperature, reference=learnt
    )
    assert len(read) == rows
    assert read.probabilities.shape == (rows, classes)
    np.testing.assert_allclose(read.probabilities.sum(axis=1), 1)
    assert read.projected.shape == (rows, PROJECTED)
    assert read.projected.dtype == np.float16
    for name in SIGNALS:
        assert read.signal(name).shape == (rows,)
        assert np.isfinite(read.signal(name)).all()
    assert (read.confidence >= 1 / classes - 1e-12).all()
    assert (read.confidence <= 1 + 1e-12).all()
    assert (read.entropy >= 0.0).all()
    assert (read.entropy <= np.log(classes) + 1e-9).all()
    assert (read.margin >= 0).all()
    assert (read.margin <= read.confidence).all()
    assert (np.abs(read.similarity) <= 1 + 1e-5).all()
    assert (read.probabilities[np.arange(rows), read.predicted] == read.confidence).all()


def test_the_signals_of_a_known_answer() -> None:
    centroids = np.eye(2, 3, dtype=np.float32)
    rarity = np.array([1.0, 2.0, 6.0], dtype=np.float32)
    known = Reference(centroids, np.zeros(3, np.float32), np.eye(3, PROJECTED, dtype=np.float32), rarity)
    logits = np.log(np.array([[0.75, 0.25]], dtype=np.float32))
    read = read_signals(
        logits, np.array([[3.0, 4.0, 0.0]], np.float32), [[0, 1, 2, 1, 9]], temperature=1, reference=known
    )
    assert read.predicted.tolist() == [0]
    assert read.confidence[0] == pytest.approx(0.75)
    assert read.margin[0] == pytest.approx(0.5)
    assert read.entropy[0] == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    assert read.similarity[0] == pytest.approx(0.8)
    assert read.length[0] == 5
    assert read.rarity[0] == pytest.approx((1 + 2 + 6 + 2 + 6) / 5)  # an id past the table is as rare as its last
    assert read.projected[0, :3].tolist() == pytest.approx([0.6, 0.8, 0], abs=1e-3)


def test_a_higher_temperature_makes_less_sure_and_changes_no_answer(rng: np.random.Generator) -> None:
    logits, embeddings = rng.normal(size=(50, 4)).astype(np.float32), rng.normal(size=(50, 40)).astype(np.float32)
    learnt = reference(rng)
    cold, warm = (read_signals(logits, embeddings, [[1]] * 50, temperature=t, reference=learnt) for t in (1, 2))
    assert (cold.predicted == warm.predicted).all()
    assert (warm.confidence < cold.confidence).all()
    assert (warm.entropy > cold.entropy).all()


def test_a_centroid_is_its_class_and_a_class_without_rows_gets_the_mean(rng: np.random.Generator) -> None:
    embeddings = unit_length(rng.normal(size=(30, 5)).astype(np.float32) + 2)
    labels = np.arange(30) % 2
    learnt = learn(embeddings, labels, 3)
    np.testing.assert_allclose(learnt.centroids[0], unit_length(embeddings[labels == 0].mean(0)[None])[0], atol=1e-6)
    np.testing.assert_allclose(learnt.centroids[2], unit_length(embeddings.mean(0)[None])[0], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(learnt.centroids, axis=1), 1, atol=1e-6)


def test_the_axes_are_orthonormal_and_missing_ones_zero(rng: np.random.Generator) -> None:
    wide, narrow = reference(rng).axes, reference(rng, size=5).axes
    np.testing.assert_allclose(wide.T @ wide, np.eye(PROJECTED), atol=1e-5)
    np.testing.assert_allclose(narrow.T @ narrow, np.diag([1.0] * 5 + [0.0] * (PROJECTED - 5)), atol=1e-5)


def test_zero_vectors_stay_zero() -> None:
    assert unit_length(np.zeros((2, 3), np.float32)).tolist() == [[0, 0, 0]] * 2


def test_a_reference_is_read_as_it_was_written(tmp_path: Path, rng: np.random.Generator) -> None:
    learnt = reference(rng)
    learnt.save(tmp_path / "reference.npz")
    read = Reference.load(tmp_path / "reference.npz")
    for name in ("centroids", "mean", "axes", "rarity"):
        np.testing.assert_array_equal(getattr(read, name), getattr(learnt, name))


@pytest.mark.parametrize("damage", ["absent", "empty", "cut", "text", "npy", "other arrays", "pickle"])
def test_a_broken_reference_is_named(tmp_path: Path, rng: np.random.Generator, damage: str) -> None:
    path = tmp_path / "reference.npz"
    reference(rng).save(path)
    whole = path.read_bytes()
    if damage == "absent":
        path.unlink()
    elif damage == "npy":
        np.save(tmp_path / "one.npy", np.ones(3))
        (tmp_path / "one.npy").rename(path)
    elif damage == "other arrays":
        np.savez(path, mean=np.ones(3))
    elif damage == "pickle":
        objects = np.array([{}, None], dtype=object)
        np.savez(path, allow_pickle=True, centroids=objects, mean=objects, axes=objects)
    else:
        path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"hello"}[damage])
    with pytest.raises(BrokenBundle, match=r"reference\.npz cannot be read"):
        Reference.load(path)
