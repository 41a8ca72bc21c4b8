"""How a model is fine-tuned: one small value that is kept in its lineage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from monitoring.core.errors import InvalidInput

Method = Literal["head", "lora", "full"]

# Measured on Banking77: a low-rank adapter wants ten times the learning rate of all weights.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "head": {},
    "lora": {"epochs": 5, "learning_rate": 2e-3},
    "full": {"epochs": 5, "learning_rate": 2e-4},
}


class Recipe(BaseModel):
    """`head` fits a logistic head on the frozen encoder, by `inverse_l2` alone; `lora` and `full` train by epochs.

    `inverse_l2` weighs the summed loss against half the squared weights, as C does in scikit-learn. `patience` is the
    number of epochs without a better validation loss after which training stops.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Method = "head"
    max_tokens: int = Field(128, ge=8, le=512)
    batch_size: int = Field(32, ge=1)
    epochs: int = Field(5, ge=1)
    learning_rate: float = Field(2e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    dropout: float = Field(0.1, ge=0, lt=1)
    patience: int = Field(2, ge=1)
    lora_rank: int = Field(16, ge=1)
    inverse_l2: float = Field(30.0, gt=0)

    @classmethod
    def for_method(cls, method: str, **changes: Any) -> Recipe:
        """The method's defaults with some of them changed; None changes nothing. Raises InvalidInput."""
        if method not in DEFAULTS:
            raise InvalidInput(f"method {method!r} is none of {', '.join(DEFAULTS)}", field="method")
        chosen = {name: value for name, value in changes.items() if value is not None}
        try:
            return cls.model_validate({"method": method} | dict(DEFAULTS[method]) | chosen)
        except ValidationError as error:
            fault = error.errors()[0]
            name = ".".join(map(str, fault["loc"]))
            raise InvalidInput(f"recipe: {name}: {fault['msg']} (got {fault['input']!r})", field=name) from error
