"""The page of checks names every check that is asked for, and only tests that there are."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.architecture.test_house import ROOT, tree

PAGE = ROOT / "hub" / "docs" / "reference" / "checks.md"
ASKED = re.findall(
    r"\S+",
    """
1.2.2 1.2.4 1.2.5 1.3.2 1.3.7 1.3.3 1.3.10 1.3.6 13.2.4 13.2.5 1.5.1 1.5.2 2.2.1 2.2.2 2.3.1 2.3.3 2.3.4 2.4.1
3.3.1 3.3.2 3.3.3 3.3.4 3.4.1 3.4.3 3.4.4 3.4.5 3.4.6 3.5.1 3.5.2 3.5.3 4.1.3 15.3.4 5.2.1 5.2.2 5.2.3 5.3.2
6.3.2 6.8.1 10.5.2 7.2.4 7.3.1 7.3.2 7.4.1 7.4.2 8.2.1 8.2.2 8.2.3 8.3.1 8.4.1 9.1.1 9.1.2 9.1.3 9.2.1 9.2.2 9.2.3
10.2.1 10.5.1 10.4.4 10.4.11 11.1.2 11.2.2 11.3.2 11.3.3 11.4.2 11.5.1 12.1.3 12.3.1 12.3.2 13.2.2 13.3.2 13.3.1
13.4.2 13.4.5 14.2.1 14.3.2 15.1.2 15.2.1 15.3.1 15.3.3 15.3.2 16.2.1 16.2.2 16.2.5 16.3.1 16.3.2 16.3.3 16.3.4
16.4.1 16.4.2 16.4.3 16.5.1 16.5.2 16.5.3
""",
)
HELD = re.compile(r"yes|not held|partly: .+")


def rows() -> list[tuple[list[str], str, str, str, list[str]]]:
    """Ids, kinds, check, how far it is held, and the node ids of its tests."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [each.strip() for each in line.strip("|").split("|")]
        if re.match(r"\| \d", line):
            ids = [each for part in cells[0].split(", ") for each in spread(part)]
            found.append((ids, cells[1], cells[2], cells[3], re.findall(r"`([^`]+::[^`]+)`", cells[4])))
    return found


def spread(part: str) -> list[str]:
    """`3.3.1–3.3.4` as each of them."""
    first, _, last = part.partition("–")
    if not last:
        return [first]
    head, low = first.rsplit(".", 1)
    return [f"{head}.{number}" for number in range(int(low), int(last.rsplit(".", 1)[1]) + 1)]


@cache
def proofs_in(file: str) -> frozenset[str]:
    """The tests of a file as pytest names them within it, those of its classes too."""
    found = set()
    for node in tree(ROOT / file).body:
        named = [(node, "")] if isinstance(node, ast.FunctionDef) else []
        if isinstance(node, ast.ClassDef):
            named += [(each, f"{node.name}::") for each in node.body if isinstance(each, ast.FunctionDef)]
        found |= {f"{prefix}{each.name}" for each, prefix in named if each.name.startswith("test_")}
    return frozenset(found)


def test_every_check_that_is_asked_for_is_in_the_page_once() -> None:
    listed = [each for ids, *_ in rows() for each in ids]
    assert sorted(listed) == sorted(set(listed))
    assert set(listed) == set(ASKED)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][0])
def test_a_check_names_tests_that_there_are_or_is_said_not_to_be_held(
    row: tuple[list[str], str, str, str, list[str]],
) -> None:
    _, kinds, check, held, tests = row
    assert set(kinds.split()) <= {"A", "S"}
    assert check
    assert HELD.fullmatch(held)
    assert bool(tests) == (held != "not held")
    for each in tests:
        file, _, name = each.partition("::")
        assert (ROOT / file).is_file(), each
        assert name in proofs_in(file), f"{each} is no test"
