"""SOQL text to a tree, by recursive descent; what Salesforce does not read is refused as it refuses it."""

from __future__ import annotations

from connectors.salesforce.twin.org.clock import read_date, read_moment
from connectors.salesforce.twin.org.problems import RefusedError
from connectors.salesforce.twin.soql.lexer import Token, malformed, tokens, unquoted
from connectors.salesforce.twin.soql.periods import NUMBERED, PLAIN
from connectors.salesforce.twin.soql.tree import (
    Aggregate,
    Both,
    Children,
    Comparison,
    Condition,
    Not,
    Operator,
    Order,
    Path,
    Period,
    Query,
    Selected,
    Value,
)

AGGREGATES = frozenset({"COUNT", "COUNT_DISTINCT", "MIN", "MAX", "SUM", "AVG"})
_ENDS = frozenset({"WHERE", "GROUP", "ORDER", "LIMIT", "OFFSET", "FOR", "USING", "WITH", "HAVING", "ALL"})
_OPERATORS: dict[str, Operator] = {
    "=": "=",
    "!=": "!=",
    "<>": "!=",
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
    "LIKE": "LIKE",
    "IN": "IN",
    "INCLUDES": "INCLUDES",
    "EXCLUDES": "EXCLUDES",
}
MOST_OFFSET = 2000
MOST_STRING = 4000
"""Characters of one string in WHERE."""


def parse(text: str) -> Query:
    """The tree of one query. RefusedError (MALFORMED_QUERY and its like) says what is wrong and where."""
    parser = _Parser(text)
    query = parser.query()
    parser.expect_end()
    return query


class _Parser:
    """Reads tokens from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._at = 0

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def query(self) -> Query:
        """SELECT … FROM … and what may follow."""
        self._word("SELECT")
        selected, fields_all = self._selected()
        self._word("FROM")
        name = self._name()
        alias = self._alias()
        if self._skip("USING"):
            self._word("SCOPE")
            self._name()
        where = self._condition() if self._skip("WHERE") else None
        if self._skip("WITH"):
            self._word("SECURITY_ENFORCED")
        group = self._group()
        order = self._order()
        limit = self._count() if self._skip("LIMIT") else None
        offset = self._count() if self._skip("OFFSET") else None
        if self._skip("FOR"):
            self._name()
        if offset is not None and offset > MOST_OFFSET:
            raise RefusedError("NUMBER_OUTSIDE_VALID_RANGE", f"Maximum SOQL offset allowed is {MOST_OFFSET}")
        made = Query(
            self._text, selected, name.text, name.column, alias, where, group, order, limit, offset, fields_all
        )
        if fields_all in {"ALL", "CUSTOM"} and (limit is None or limit > 200):
            raise RefusedError("MALFORMED_QUERY", "The SOQL FIELDS function must have a LIMIT of at most 200")
        return made

    def expect_end(self) -> None:
        """Nothing may follow."""
        if self._next.kind != "end":
            raise self._unexpected()

    def _selected(self) -> tuple[tuple[Selected, ...], str | None]:
        made: list[Selected] = []
        fields_all = None
        while True:
            if self._next.is_word("FIELDS") and self._tokens[self._at + 1].text == "(":
                self._at += 2
                fields_all = self._name().text.upper()
                self._sign(")")
            else:
                made.append(self._one())
            if not self._skip_sign(","):
                return tuple(made), fields_all

    def _one(self) -> Selected:
        if self._skip_sign("("):
            query = self.query()
            self._sign(")")
            return Children(query)
        start = self._next
        if self._tokens[self._at + 1].text != "(":
            return self._path()
        function = self._name().text.upper()
        if function not in AGGREGATES:
            raise malformed(self._text, start.column, f"unexpected token: '{start.text}'")
        self._sign("(")
        path = None if self._next.text == ")" else self._path()
        self._sign(")")
        if path is None and function != "COUNT":
            raise self._unexpected()
        alias = self._name().text if self._next.kind == "word" and not self._next.is_word("FROM") else None
        return Aggregate(function, path, alias, start.column)

    def _alias(self) -> str | None:
        self._skip("AS")
        if self._next.kind == "word" and self._next.text.upper() not in _ENDS:
            return self._name().text
        return None

    def _condition(self) -> Condition:
        parts = [self._term()]
        word = None
        while self._next.is_word("AND") or self._next.is_word("OR"):
            # AND and OR do not mix without brackets.
            if word not in (None, self._next.text.upper()):
                raise malformed(self._text, self._next.column, f"unexpected token: {self._next.text}")
            word = self._next.text.upper()
            self._at += 1
            parts.append(self._term())
        if word is None:
            return parts[0]
        return Both("AND" if word == "AND" else "OR", tuple(parts))

    def _term(self) -> Condition:
        if self._skip("NOT"):
            return Not(self._term())
        if self._skip_sign("("):
            inside = self._condition()
            self._sign(")")
            return inside
        path = self._path()
        operator = self._operator()
        if operator in {"IN", "NOT IN", "INCLUDES", "EXCLUDES"}:
            return Comparison(path, operator, self._several())
        return Comparison(path, operator, self._value(pattern=operator == "LIKE"))

    def _operator(self) -> Operator:
        token = self._next
        found = _OPERATORS.get(token.text.upper())
        if found is not None:
            self._at += 1
            return found
        if self._skip("NOT"):
            self._word("IN")
            return "NOT IN"
        raise malformed(self._text, token.column, f"unexpected token: '{token.text}'")

    def _several(self) -> tuple[Value, ...] | Query:
        self._sign("(")
        if self._next.is_word("SELECT"):
            query = self.query()
            self._sign(")")
            return query
        made = [self._value()]
        while self._skip_sign(","):
            made.append(self._value())
        self._sign(")")
        return tuple(made)

    def _value(self, *, pattern: bool = False) -> Value:
        token = self._next
        self._at += 1
        if token.kind == "string":
            if len(token.text) > MOST_STRING + 2:
                raise RefusedError("MALFORMED_QUERY", f"String literal exceeds maximum length of {MOST_STRING}")
            return unquoted(token.text, pattern=pattern)
        if token.kind == "number":
            return float(token.text) if any(each in token.text for each in ".eE") else int(token.text)
        if token.kind == "date":
            day = read_date(token.text)
            if day is not None:
                return day
        elif token.kind == "moment":
            moment = read_moment(token.text.upper())
            if moment is not None:
                return moment
        elif token.kind == "word":
            return self._constant(token)
        self._at -= 1
        raise self._unexpected()

    def _constant(self, token: Token) -> Value:
        word = token.text.upper()
        if word in {"TRUE", "FALSE"}:
            return word == "TRUE"
        if word == "NULL":
            return None
        if word in PLAIN:
            return Period(word)
        if word in NUMBERED:
            self._sign(":")
            return Period(word, self._count())
        self._at -= 1
        raise malformed(self._text, token.column, f"unexpected token: '{token.text}'")

    def _group(self) -> tuple[Path, ...]:
        if not self._skip("GROUP"):
            return ()
        self._word("BY")
        made = [self._path()]
        while self._skip_sign(","):
            made.append(self._path())
        return tuple(made)

    def _order(self) -> tuple[Order, ...]:
        if not self._skip("ORDER"):
            return ()
        self._word("BY")
        made = [self._ordered()]
        while self._skip_sign(","):
            made.append(self._ordered())
        return tuple(made)

    def _ordered(self) -> Order:
        path = self._path()
        descending = self._skip("DESC")
        if not descending:
            self._skip("ASC")
        last = None
        if self._skip("NULLS"):
            last = self._skip("LAST")
            if not last:
                self._word("FIRST")
        return Order(path, descending, last)

    def _path(self) -> Path:
        first = self._name()
        parts = [first.text]
        while self._skip_sign("."):
            parts.append(self._name().text)
        return Path(tuple(parts), first.column)

    def _count(self) -> int:
        token = self._next
        if token.kind != "number" or not token.text.isdigit():
            raise self._unexpected()
        self._at += 1
        return int(token.text)

    def _name(self) -> Token:
        token = self._next
        if token.kind != "word":
            raise self._unexpected()
        self._at += 1
        return token

    def _word(self, word: str) -> None:
        if not self._skip(word):
            raise self._unexpected()

    def _skip(self, word: str) -> bool:
        if self._next.is_word(word):
            self._at += 1
            return True
        return False

    def _sign(self, sign: str) -> None:
        if not self._skip_sign(sign):
            raise self._unexpected()

    def _skip_sign(self, sign: str) -> bool:
        if self._next.kind == "sign" and self._next.text == sign:
            self._at += 1
            return True
        return False

    def _unexpected(self) -> RefusedError:
        token = self._next
        return malformed(self._text, token.column, f"unexpected token: '{token.text}'")
