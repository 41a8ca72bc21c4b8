"""The console can be read: text stands out from its ground in light and dark (WCAG 2, level AA)."""

from __future__ import annotations

import re

import pytest

from service.console.pages import FOLDER

PAIRS = [
    ("ink", "ground"),
    ("ink", "surface"),
    ("ink", "attention-ground"),
    ("quiet", "ground"),
    ("quiet", "surface"),
    ("quiet", "attention-ground"),
    ("accent", "ground"),
    ("accent", "surface"),
    ("on-accent", "accent"),
    ("bad", "surface"),
    *((name, f"{name}-ground") for name in ("good", "bad", "attention", "info")),
]
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    for block in re.findall(r":root \{(.*?)\}", (FOLDER / "style.css").read_text(), re.DOTALL)
)


def luminance(colour: str) -> float:
    channels = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_text_stands_out(colours: dict[str, str], text: str, ground: str) -> None:
    dark, light = sorted([luminance(colours[text]), luminance(colours[ground])])
    assert (light + 0.05) / (dark + 0.05) >= 4.5
