from __future__ import annotations

import pytest
from pydantic import ValidationError

from monitoring.core.errors import InvalidInput
from training.recipe import DEFAULTS, Recipe


@pytest.mark.parametrize("method", DEFAULTS)
def test_a_recipe_survives_its_lineage(method: str) -> None:
    recipe = Recipe.for_method(method, epochs=3)
    assert recipe.epochs == 3
    assert Recipe.model_validate(recipe.model_dump()) == recipe


def test_an_adapter_learns_faster_than_all_weights() -> None:
    assert Recipe.for_method("lora").learning_rate == 10 * Recipe.for_method("full").learning_rate


def test_nothing_said_changes_nothing() -> None:
    assert Recipe.for_method("full", epochs=None, max_tokens=None) == Recipe.for_method("full")


@pytest.mark.parametrize(
    ("method", "changes", "field"),
    [
        ("prefix", {}, "method"),
        ("head", {"max_tokens": 100_000}, "max_tokens"),
        ("full", {"learnig_rate": 1}, "learnig_rate"),
    ],
)
def test_a_faulty_recipe_names_its_fault(method: str, changes: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Recipe.for_method(method, **changes)
    assert caught.value.field == field


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Recipe().epochs = 7  # type: ignore[misc]
