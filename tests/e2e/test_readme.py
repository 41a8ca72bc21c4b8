"""The README tells the truth: its commands, options, settings, make targets and files are all there."""

from __future__ import annotations

import re
import shlex
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from monitoring.core.cli import GROUP, program
from monitoring.core.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```\w*\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
SPANS = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE))
LINES = [*"".join(BLOCKS).replace("\\\n", " ").splitlines(), *SPANS]

COMMANDS = [line for line in LINES if re.match(r"(\.venv/bin/)?leeway [a-z]", line)]
TARGETS = sorted({found[1] for line in LINES if (found := re.match(r"make ([a-z-]+)", line))})
LINKS = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith(("http", "#"))]
FILES = sorted({span for span in SPANS if re.fullmatch(r"[\w./-]+\.(py|yml|svg|md|lock)", span)})
FOLDERS = sorted({name for line in LINES if "─" in line for name in re.findall(r"(?<![\w./])[a-z_]+/(?=\s)", line)})
SETTINGS = sorted({span for span in SPANS if span.partition(".")[0] in Settings.model_fields and "." in span})
VARIABLES = sorted(set(re.findall(r"\bLEEWAY_[A-Z_]+\b", README)))
NOT_SETTINGS = {"LEEWAY_API_KEY"}
BUILT = {"build", "dist"}


def test_there_is_something_to_check() -> None:
    assert all([COMMANDS, TARGETS, LINKS, FILES, FOLDERS, SETTINGS])


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_can_be_given_as_it_stands(line: str) -> None:
    """Parsed by the command itself, which checks options, choices and types, and is not run."""
    _, *words = shlex.split(line, comments=True)
    command, context = find_command(words)
    if len(words) == len(context.command_path.split()) - 1:
        return  # named, not given
    command.make_context(command.name, words[len(context.command_path.split()) - 1 :], parent=context.parent)


@pytest.mark.parametrize("target", TARGETS)
def test_every_make_target_is_there(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("link", LINKS)
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link.partition("#")[0]).exists()


@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_every_file_that_is_named_is_there(name: str) -> None:
    """Named as a whole or by its end: `core/spool.py`."""
    assert [path for path in sources() if f"/{path}".endswith(f"/{name}")], f"there is no {name}"


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_that_is_named_is_there(setting: str) -> None:
    section, _, name = setting.partition(".")
    annotation = Settings.model_fields[section].annotation
    assert isinstance(annotation, type)
    assert issubclass(annotation, BaseModel)
    assert name in annotation.model_fields


@pytest.mark.parametrize("variable", [name for name in VARIABLES if name not in NOT_SETTINGS])
def test_every_variable_is_a_setting(variable: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section, _, name = variable.removeprefix("LEEWAY_").lower().partition("__")
    assert section in Settings.model_fields
    if name:
        monkeypatch.setenv(variable, "100")
        assert getattr(getattr(load_settings(), section), name) == 100


def find_command(words: list[str]) -> tuple[click.Command, click.Context]:
    """The command that these words name: `keys add` is two words deep."""
    command: click.Command = leeway()
    context = click.Context(command, info_name="leeway")
    for word in words:
        if not isinstance(command, click.Group):
            break
        found = command.get_command(context, word)
        assert found is not None, f"there is no command {word!r} in `{context.command_path}`"
        command, context = found, click.Context(found, info_name=word, parent=context)
    return command, context


@cache
def leeway() -> click.Group:
    """The program with every command that the packages bring."""
    for entry in entry_points(group=GROUP):
        for command in entry.load():
            program.add_command(command)
    return program


@cache
def sources() -> tuple[str, ...]:
    """The repository's files and folders, the latter with a slash at the end; nothing hidden or built."""
    tops = [path for path in ROOT.iterdir() if not path.name.startswith(".") and path.name not in BUILT]
    found = [path for top in tops for path in (top, *top.rglob("*"))]
    return tuple(path.relative_to(ROOT).as_posix() + "/" * path.is_dir() for path in found)
