"""What is wrong with a document, gathered while the rest of it is still judged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from hub.mappings.document import dotted, mark_of
from hub.mappings.expressions import Expression, ExpressionError, ValueType, compile_expression
from hub.mappings.types import Document, MappingError, Problem


@dataclass
class Scope:
    """The names an expression may use.

    `unknown` says that some names could not be found out because of another problem, so that an error here may only
    be its shadow; `broken` are the lookups of which that is true.
    """

    names: dict[str, ValueType] = field(default_factory=dict)
    unknown: bool = False
    broken: set[str] = field(default_factory=set)

    def copy(self) -> Scope:
        """One to add to."""
        return Scope(dict(self.names), self.unknown, set(self.broken))

    def shadows(self, text: str) -> bool:
        """Whether an error in this text may come from a problem that is noted already."""
        return self.unknown or any(f"{name}." in text for name in self.broken)


class Findings:
    """The problems of one document, in the order of their lines."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._problems: list[Problem] = []

    def note(self, path: tuple[str | int, ...], message: str, *, offset: int | None = None) -> None:
        """A problem at a path; `offset` is a place in its text."""
        marks = self.document.marks
        line, column = mark_of(marks, path)
        mark = marks.get(path)
        if offset is not None and mark is not None and mark.inset is not None:
            line, column = mark.value[0], mark.value[1] + mark.inset + offset
        self._problems.append(Problem(line, column, dotted(path), message))

    def compile(
        self,
        path: tuple[str | int, ...],
        text: str,
        scope: Scope,
        *,
        expect: ValueType | None = None,
        allow_reasons: bool = False,
    ) -> Expression | None:
        """The expression, or None after noting why there is none."""
        zone = self.document.read.timezone
        try:
            return compile_expression(text, scope.names, timezone=zone, expect=expect, allow_reasons=allow_reasons)
        except ExpressionError as error:
            self.refuse(path, text, scope, error)
            return None

    def refuse(self, path: tuple[str | int, ...], text: str, scope: Scope, error: ExpressionError) -> None:
        """Notes an expression's error, unless it may be the shadow of another problem."""
        if not scope.shadows(text):
            self.note(path, error.message, offset=error.position)

    def __bool__(self) -> bool:
        return bool(self._problems)

    def raise_any(self) -> None:
        """MappingError with everything noted, if anything was."""
        if self._problems:
            raise MappingError(
                sorted(dict.fromkeys(self._problems), key=lambda each: (each.line, each.column, each.path))
            )


def listed(names: Iterable[str], most: int = 8) -> str:
    """Names for a sentence, the first few of many."""
    every = list(names)
    rest = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + rest
