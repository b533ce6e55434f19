"""Papers that cannot rot: commands, events and links are checked against what is there."""

import re
from pathlib import Path

import click
import pytest

from config.cli.main import COMMANDS, main
from registry import events

ROOT = Path(__file__).resolve().parents[1]
PAPERS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def every_command(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    found = [(path, command)] if path else []
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None, name
            found += every_command(child, (*path, name))
    return found


ALL_COMMANDS = every_command(main)


@pytest.mark.parametrize(("path", "command"), ALL_COMMANDS, ids=[" ".join(path) for path, _ in ALL_COMMANDS])
def test_every_command_says_what_it_does_and_shows_an_example(path: tuple[str, ...], command: click.Command):
    text = click.Context(command, info_name=" ".join(("entrepot", *path))).command.get_help(click.Context(command))
    assert command.help, path
    if not isinstance(command, click.Group):
        assert "entrepot " + " ".join(path) in text, f"no example of {' '.join(path)}"


def test_the_lines_of_the_command_list_name_what_each_group_has():
    for name, (_, _, line) in COMMANDS.items():
        command = main.get_command(click.Context(main), name)
        assert command is not None
        if isinstance(command, click.Group):
            children = set(command.list_commands(click.Context(command)))
            named = set(re.findall(r"[a-z-]+", line.partition(":")[2]))
            assert named <= children, f"{name}: {named - children} are no commands"


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(paper: Path):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", paper.read_text()):
        if "://" not in target:
            assert (paper.parent / target).exists(), f"{paper.name}: {target}"


def test_paths_in_the_papers_exist():
    """Whatever stands in backticks and begins with a folder of this repository."""
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}
    found = 0
    for paper in PAPERS:
        for path in re.findall(r"`([\w.*-]+(?:/[\w.*-]*)+)`", paper.read_text()):
            if path.partition("/")[0] in folders:
                found += 1
                assert list(ROOT.glob(path.rstrip("/"))), f"{paper.name}: {path}"
    assert found > 10


def test_commands_in_the_papers_exist():
    known = {" ".join(path) for path, _ in ALL_COMMANDS}
    for paper in PAPERS:
        for words in re.findall(r"entrepot ((?:[a-z-]+ ?){1,2})", paper.read_text()):
            first = words.split()[0]
            if first in COMMANDS:
                second = " ".join(words.split()[:2])
                group = main.get_command(click.Context(main), first)
                if isinstance(group, click.Group) and len(words.split()) > 1:
                    assert second in known, f"{paper.name}: entrepot {second}"


def test_every_event_has_its_reference():
    for kind, event in events.KINDS.items():
        assert event.__doc__, kind


def test_no_paper_has_a_blank_left_to_fill():
    for paper in PAPERS:
        assert "@@" not in paper.read_text(), paper.name
