"""README and docs: short, complete, and every command in them is one that there is."""

import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jamendo_mood.cli.main import COMMANDS, build_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES += [path for path in sorted((ROOT / "docs").rglob("*.md")) if "api" not in path.parts]
PAGE_NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]


def read_commands(text: str) -> list[str]:
    """The commands that a page tells to type: in blocks marked ``sh``, or indented by four, some with a prompt."""
    found, fence = [], None
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if match := re.match(r"```(\w*)", line):
            fence = None if fence is not None else match[1]
        elif match := re.match({"sh": "", None: " {4}"}.get(fence, "no") + r"(?:\$ )?jamendo-mood (.*)", line):
            found.append(match[1].partition(" > ")[0].partition("  #")[0])
    return found


def test_commands_are_found_in_a_page():
    text = "    $ jamendo-mood tasks\n    mirex\n```sh\njamendo-mood tag a \\\n    b > c\n```\njamendo-mood is\n"
    assert read_commands(text + "```text\njamendo-mood no\n```\n") == ["tasks", "tag a b"]


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_the_commands_of_a_page_can_be_typed(name):
    parser = build_parser()
    for command in read_commands((ROOT / name).read_text(encoding="utf-8")):
        parser.parse_args(shlex.split(command))


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_names_of_the_package_are_there(name):
    """In prose, and what a block of code imports; `import` leads to a module, the rest to what is in it."""
    text = (ROOT / name).read_text(encoding="utf-8")
    names = set(re.findall(r"\bjamendo_mood(?:\.\w+)+", text))
    for module, imported in re.findall(r"^from (jamendo_mood[\w.]*) import (.+)$", text, re.MULTILINE):
        names |= {f"{module}.{each.strip()}" for each in imported.split(",")}
    for dotted in names:
        pkgutil.resolve_name(dotted)


def test_the_tutorials_have_commands_and_the_readme_is_short():
    counts = [len(read_commands(path.read_text(encoding="utf-8"))) for path in PAGES if path.parent.name == "tutorials"]
    assert sum(counts) > 20
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("\n") <= 150


def test_every_command_is_in_the_reference_once():
    """Its options are made from the parser that this names, so none of them can be missing."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "commands").glob("*.md")))
    blocks = re.findall(r"```\{argparse\}\n(.*?)```", text, re.DOTALL)
    paths = [re.search(r"^:path: (.+)$", block, re.MULTILINE)[1] for block in blocks]
    assert sorted(paths) == sorted(COMMANDS)
    assert all(":module: jamendo_mood.cli.main\n:func: build_parser\n" in block for block in blocks)


DECIMAL = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.])")
COMMAND = r"(?:jamendo-mood [a-z]|(?:python )?scripts/\w+\.py|python -m pytest )"
MADE = re.compile(rf"^ {{4}}(?:\$ )?{COMMAND}|`(?:time )?{COMMAND}", re.MULTILINE)
MADE_ALL = re.compile(rf"(?:made|printed|compared) *\n*by\s+`?{COMMAND}", re.IGNORECASE)
LICENCES = re.compile(r"(?:Apache|BY) \d\.0")
GIVEN = {"Which embedder"}
"""Sections with tables whose numbers were not measured: what an embedder is."""


@pytest.mark.parametrize("name", [name for name in PAGE_NAMES if name.startswith("docs/")])
def test_each_table_of_numbers_says_what_makes_it(name):
    """By a command in its section; or the page begins with the command that made all of its tables."""
    text = re.sub(r"```python.*?```", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    first, *sections = re.split(r"^#+ ", text, flags=re.MULTILINE)[1:]
    for section in (first, *sections):
        heading, _, text = section.partition("\n")
        cells = LICENCES.sub("", "\n".join(line for line in text.splitlines() if line.startswith("|")))
        if DECIMAL.search(cells) and heading not in GIVEN:
            assert MADE.search(text) or MADE_ALL.search(first), heading


@pytest.mark.shared
def test_the_tables_of_a_page_are_printed_by_the_command_that_it_names(shared):
    """The quickest of them, about where tags lie."""
    text = (ROOT / "docs" / "emotions.md").read_text(encoding="utf-8").partition("## Beside a published table")[2]
    script, *names = re.search(r"^ {4}python (.+)$", text, re.MULTILINE)[1].split()
    words = [ROOT / script, *(shared / "data" / "jamendo" / name for name in names)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True)
    printed, written = ([line for line in page.splitlines() if line.startswith("|")] for page in (done.stdout, text))
    assert printed == written
    assert "34 of the 56 are in the same quadrant." in done.stdout
    assert "34 of the 56 are in the same quadrant." in text


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_links_lead_to_files_that_are_there(name):
    """Of the site Sphinx looks, too; but not of README.md and its like."""
    page = ROOT / name
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r'src="([^"]+)"', text)
    local = [link for link in links if "://" not in link and link != "api/index.rst" and link != "../api/index.rst"]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.thorough
def test_the_site_is_built_without_a_warning_and_asks_nothing_of_other_hosts(tmp_path):
    site = tmp_path / "site"
    build = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", str(ROOT / "docs"), str(site)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = "\n".join(path.read_text(encoding="utf-8") for path in site.rglob("*.html"))
    assert not re.search(r'<(?:script|img|iframe)[^>]* src="(?:https?:)?//|<link[^>]* href="(?:https?:)?//', text)
    css = "\n".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"@import|url\([\"']?(?:https?:)?//", css)
    for name in COMMANDS:
        parser = next(action for action in build_parser()._actions if action.dest == "command").choices[name]
        for action in parser._actions:
            if "--help" not in action.option_strings:
                assert all(f">{option}</" in text for option in action.option_strings), (name, action.option_strings)
    for room in (path.parent.name for path in (ROOT / "jamendo_mood").glob("*/__init__.py")):
        assert (site / "api" / f"{room}.html").is_file()
