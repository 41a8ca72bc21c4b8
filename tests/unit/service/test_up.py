"""`leeway up` keeping its roles alive, played by tiny processes: one cannot be started, or keeping itself fails."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import service.restart
import service.up
from monitoring.core.settings import Settings
from service.restart import NextStart
from service.up import Troupe

PATIENCE_S = 60.0
PLAY = """
import pathlib, sys, time
folder = pathlib.Path({folder!r})
if sys.argv[1] == "serve":
    (folder / "serving").touch()
    sys.stdin.read()
while not (folder / "serving").exists():
    time.sleep(0.01)
(folder / "python").unlink()  # so that nobody is started after this
for number in range(20):
    print("complaint", number)
"""


@pytest.fixture
def said_until(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """Run `serve` and a `monitor` that dies, up to a word; what was said by the time all have stopped."""
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(service.up, "PLAY", PLAY.format(folder=str(tmp_path)))
    monkeypatch.setattr(service.restart, "WAITS", (0.0, 0.0))

    async def play(word: str) -> str:
        troupe, said = Troupe(["monitor"], Settings(home=tmp_path)), ""
        running = asyncio.create_task(troupe.run())
        async with asyncio.timeout(PATIENCE_S):
            while word not in said and not running.done():
                await asyncio.sleep(0.01)
                said += capsys.readouterr().out
            assert not running.done()
            troupe._asked_to_stop()
            assert await running == 0
        return said + capsys.readouterr().out

    return lambda word: asyncio.run(play(word))


def test_one_that_cannot_be_started_again_has_died_quickly(said_until: Callable[[str], str]) -> None:
    said = said_until("beside this")
    assert "monitor HAS ENDED with exit code 0, after 0 s, quick death 1 of 3: starting it again" in said
    assert said.count("monitor COULD NOT BE STARTED ([Errno 2] No such file or directory") == 2
    assert "death 3 in a row within 60 s of its start: GIVEN UP; serving goes on without it" in said
    _, _, repeated = said.partition("the last that monitor said:")
    assert "complaint 11\n" not in repeated
    assert [f"complaint {number}\n" in repeated for number in range(12, 20)] == [True] * 8


@pytest.mark.parametrize("missing", ["serve", "monitor"])
def test_one_that_cannot_even_be_started_at_first_ends_all_in_plain_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    spawn = service.up._spawn

    async def scarce(role: str) -> asyncio.subprocess.Process:
        if role == missing:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return await spawn(role)

    monkeypatch.setattr(service.up, "_spawn", scarce)
    monkeypatch.setattr(service.up, "PLAY", "import sys; sys.stdin.read()")
    assert asyncio.run(Troupe(["monitor"], Settings(home=tmp_path)).run()) == 1
    said = capsys.readouterr().out
    assert f"{missing} COULD NOT BE STARTED ([Errno 11] Resource temporarily unavailable): stopping all" in said


def test_whatever_else_ends_the_keeping_is_told(
    said_until: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(lived: float, quick: int) -> NextStart:
        raise RuntimeError(f"no idea after {quick}")

    monkeypatch.setattr(service.up, "next_start", broken)
    assert "monitor IS NOT KEPT any more, RuntimeError: no idea after 0" in said_until("start `leeway up` anew")
