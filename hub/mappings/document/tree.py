"""YAML text to plain values and the place where each of them stands.

Reads the event stream of YAML 1.2 and resolves scalars by its core schema, so that NO, 12:30 and 2020-01-01 stay text.
Aliases, tags and null values are no part of a mapping document and are refused, which also ends alias bombs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from hub.mappings.types import Mark, Problem

MAX_BYTES = 256 * 1024
MAX_DEPTH = 8
MAX_INTEGER = 2**53

Path: TypeAlias = tuple[str | int, ...]
Raw: TypeAlias = Any  # what YAML can say: text, numbers, booleans, None, lists and maps of these


@dataclass
class Tree:
    """Plain values, their marks by path, and what was wrong in the reading; `hopeless` where it had to stop early."""

    root: Raw = None
    marks: dict[Path, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    hopeless: bool = False

    def problem(self, path: Path, message: str, *, at: tuple[int, int] | None = None) -> None:
        """Notes one, at the mark of the path or of its nearest ancestor that has one."""
        line, column = at or mark_of(self.marks, path)
        self.problems.append(Problem(line, column, dotted(path), message))


def mark_of(marks: Mapping[Path, Mark], path: Path) -> tuple[int, int]:
    """Line and column of a path, of its nearest ancestor where it has none."""
    for end in range(len(path), -1, -1):
        if path[:end] in marks:
            return marks[path[:end]].place
    return (1, 1)


def dotted(path: Path) -> str:
    """A path as people write it: `expect.industry.in[1]`; `document` for the whole."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text or "document"


def read_tree(text: str) -> Tree:
    """Everything the text says and everything that is wrong with it as YAML. Never raises."""
    tree = Tree()
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        tree.hopeless = True
        tree.problem((), f"is larger than {MAX_BYTES // 1024} kB; a mapping document is a few hundred lines")
        return tree
    builder = _Builder(tree)
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            builder.take(event)
            if tree.hopeless:
                return tree
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        tree.hopeless = True
        tree.problem((), "holds a control character, which no text may", at=(line, column))
    except MarkedYAMLError as error:
        _syntax(tree, text, error)
    except (YAMLError, ValueError, IndexError, AttributeError, TypeError, AssertionError) as error:
        # the reader trips over some malformed directives and escapes with errors of Python's own
        tree.hopeless = True
        tree.problem((), f"is not YAML that can be read ({type(error).__name__})")
    return tree


def _syntax(tree: Tree, text: str, error: MarkedYAMLError) -> None:
    tree.hopeless = True
    mark = error.problem_mark or error.context_mark
    at = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    problem = error.problem or "is not YAML"
    if "\\t" not in problem:
        hint = " (text with ': ' or '#' in it needs quotes)" if "mapping values" in problem else ""
        tree.problem((), f"is not YAML here: {problem}{hint}", at=at)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        indent = line[: len(line) - len(line.lstrip())]
        if "\t" in indent:
            tree.problem((), "is indented with a tab; YAML takes spaces only", at=(number, indent.index("\t") + 1))
    if not tree.problems:
        tree.problem((), "holds a tab where YAML takes spaces only", at=at)


@dataclass
class _Open:
    """A map or list being filled: `key` is the text of the key that waits for its value."""

    value: dict[str, Raw] | list[Raw]
    path: Path
    key: str | None = None
    key_at: tuple[int, int] = (1, 1)
    doubled: bool = False


class _Builder:
    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.stack: list[_Open] = []
        self.documents = 0

    def take(self, event: Event) -> None:
        at = (event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self._give_up("is more than one document; a file holds one mapping, so remove what follows '---'", at)
        elif isinstance(event, AliasEvent):
            self._give_up("an alias (*name) is no part of a mapping document; write the value again", at)
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            self.stack.pop()
        elif isinstance(event, MappingStartEvent | SequenceStartEvent):
            self._open(event, at)
        elif isinstance(event, ScalarEvent):
            self._scalar(event, at)

    def _give_up(self, message: str, at: tuple[int, int], path: Path = ()) -> None:
        self.tree.problem(path, message, at=at)
        self.tree.hopeless = True

    def _open(self, event: MappingStartEvent | SequenceStartEvent, at: tuple[int, int]) -> None:
        if self.stack and isinstance(self.stack[-1].value, dict) and self.stack[-1].key is None:
            self._give_up("a key must be plain text", at, self.stack[-1].path)
            return
        if len(self.stack) >= MAX_DEPTH:
            self._give_up(f"is nested more than {MAX_DEPTH} levels deep", at, self.stack[-1].path)
            return
        value: dict[str, Raw] | list[Raw] = {} if isinstance(event, MappingStartEvent) else []
        path = self._path()
        if event.tag is not None:
            self.tree.problem(path, f"a tag ({event.tag}) is no part of a mapping document; remove it", at=at)
        self._put(value, at)
        self.stack.append(_Open(value, path))

    def _scalar(self, event: ScalarEvent, at: tuple[int, int]) -> None:
        if self.stack and isinstance(self.stack[-1].value, dict) and self.stack[-1].key is None:
            self._key(self.stack[-1], str(event.value), at)
            return
        path = self._path()
        if event.tag is not None:
            self.tree.problem(path, f"a tag ({event.tag}) is no part of a mapping document; remove it", at=at)
        plain = event.style is None
        value, wrong = _resolve(str(event.value)) if plain else (str(event.value), "")
        one_line = event.end_mark.line == event.start_mark.line
        quoted = event.style in ("'", '"')
        straight = (
            one_line
            and (plain or quoted)
            and len(str(event.value)) == (event.end_mark.column - event.start_mark.column - (2 if quoted else 0))
        )
        if halved := _unwritable(str(event.value)):
            self._give_up(halved, at, path)
            return
        self._put(value, at, inset=(1 if quoted else 0) if straight else None)
        if wrong:
            self.tree.problem(path, wrong, at=at)

    def _key(self, opened: _Open, name: str, at: tuple[int, int]) -> None:
        if wrong := _unwritable(name):
            self._give_up(wrong, at, opened.path)
            return
        opened.key, opened.key_at = name, at
        assert isinstance(opened.value, dict)
        opened.doubled = name in opened.value
        if opened.doubled:
            path = (*opened.path, name)
            first = self.tree.marks[path].key[0]
            self.tree.problem(path, f"stands twice, first on line {first}; keep one", at=at)

    def _path(self) -> Path:
        if not self.stack:
            return ()
        opened = self.stack[-1]
        step = len(opened.value) if isinstance(opened.value, list) else opened.key
        assert step is not None
        return (*opened.path, step)

    def _put(self, value: Raw, at: tuple[int, int], *, inset: int | None = None) -> None:
        if not self.stack:
            self.tree.root = value
            self.tree.marks[()] = Mark(at, at, inset)
            return
        opened, path = self.stack[-1], self._path()
        if isinstance(opened.value, list):
            opened.value.append(value)
            self.tree.marks[path] = Mark(at, at, inset)
            return
        assert opened.key is not None
        if not opened.doubled:
            opened.value[opened.key] = value
            self.tree.marks[path] = Mark(opened.key_at, at, inset)
        opened.key = None


_INTEGER = re.compile(r"[-+]?[0-9]+")
_REAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_ODD = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NAMED: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


_UNWRITABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def _unwritable(text: str) -> str:
    """What is wrong with a text that escapes have given a control character or half of a character."""
    return "holds an escape for a control character or half a character; remove it" if _UNWRITABLE.search(text) else ""


def _resolve(text: str) -> tuple[Raw, str]:
    """The value of a plain scalar by the core schema of YAML 1.2.2 (10.3.2), and what is wrong with it, if anything."""
    if text in _NAMED:
        return _NAMED[text], ""
    if _INTEGER.fullmatch(text):
        if len(text.lstrip("+-")) > 1 and text.lstrip("+-").startswith("0"):
            return (
                text,
                f"{text} could be text or a number; write '{text}' in quotes, or the number without zeros in front",
            )
        if len(text) > 20 or abs(int(text)) > MAX_INTEGER:
            return text, "is a number beyond 2^53, which JSON cannot keep exactly; write it in quotes"
        return int(text), ""
    if _REAL.fullmatch(text):
        number = float(text)
        return (
            (number, "") if abs(number) < float("inf") else (text, "is a number too large to keep; write it in quotes")
        )
    if _ODD.fullmatch(text):
        return text, f"{text} is not a number a mapping can use; write it in decimal digits"
    return text, ""
