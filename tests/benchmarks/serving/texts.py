"""What is asked: messages of the material, put together and cut so that their lengths are those of real traffic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

MESSAGES = 2000
MEDIAN_TOKENS, P95_TOKENS, MOST_TOKENS = 17, 61, 128
NORMAL_P95 = 1.6449
FEWEST_TOKENS = 4
SPECIAL_TOKENS = 2


def messages(source: Sequence[str], tokenizer: Tokenizer, *, seed: int = 0) -> list[str]:
    """MESSAGES texts; their token counts are lognormal with the stated median and 95th percentile, cut at the most."""
    rng = np.random.default_rng(seed)
    spread = np.log(P95_TOKENS / MEDIAN_TOKENS) / NORMAL_P95
    drawn = np.exp(rng.normal(np.log(MEDIAN_TOKENS), spread, MESSAGES))
    lengths = np.clip(drawn.round().astype(int), FEWEST_TOKENS, MOST_TOKENS)
    return [of_length(int(length), source, tokenizer, rng) for length in lengths]


def of_length(tokens: int, source: Sequence[str], tokenizer: Tokenizer, rng: np.random.Generator) -> str:
    """Messages one after the other until there are so many tokens, special ones included; the rest is cut off."""
    text = ""
    while True:
        text = f"{text} {source[rng.integers(len(source))]}".strip()
        encoded = tokenizer.encode(text, add_special_tokens=False)
        if len(encoded.ids) >= tokens - SPECIAL_TOKENS:
            return text[: encoded.offsets[tokens - SPECIAL_TOKENS - 1][1]]
