"""Documents: links lead to files, what is named exists, and the README stays short."""

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    if (ROOT / name).exists()
)
LINK = re.compile(r"\]\(([^()\s]+)\)")
MODULE = re.compile(r"python -m (experiments[\w.]*\w)")
SOURCE = re.compile(r"(?<![\w./-])(?:src|tests|experiments|benchmarks|docs)/[\w./-]+\.(?:py|md)\b")


def anchors(page: Path) -> set[str]:
    """Names of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def named(pattern: re.Pattern[str], page: Path) -> set[str]:
    """What a pattern finds in a page."""
    return set(pattern.findall(page.read_text()))


def broken_links(page: Path) -> list[str]:
    """Relative links that lead to no file, or to no heading of it."""
    broken = []
    for link in sorted(named(LINK, page)):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = page if not path else page.parent / path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page):
    assert broken_links(page) == []
    assert [m for m in sorted(named(MODULE, page)) if find_spec(m) is None] == []
    assert [s for s in sorted(named(SOURCE, page)) if not (ROOT / s).exists()] == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A (b) `c`\n[x](page.md#a-b-c) [y](page.md#z) [z](no.md) [w](https://a.b/c)")
    assert broken_links(page) == ["no.md", "page.md#z"]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 110


@pytest.mark.parametrize("folder", ["docs", "docs/decisions"])
def test_indexes_list_every_page(folder):
    """`docs/index.md` has all pages of docs, the decisions' README all decisions."""
    index = ROOT / folder / ("index.md" if folder == "docs" else "README.md")
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in named(LINK, index)}
    assert set((ROOT / folder).glob("*.md")) - {index} <= listed


def test_decisions_cite_no_issues():
    """A reader of the repository has no list of issues."""
    for page in (ROOT / "docs/decisions").glob("*.md"):
        assert not re.search(r"\bissues? \d", page.read_text()), page
