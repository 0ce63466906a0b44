"""From a text to a tree of node classes on a closed list; everything else is refused with a sentence."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from sqlglot import exp
from sqlglot.dialects.snowflake import Snowflake
from sqlglot.errors import SqlglotError
from sqlglot.parsers.snowflake import SnowflakeParser
from sqlglot.tokenizer_core import Token, TokenType

from hub.mappings.expressions.types import ExpressionError

MAX_CHARACTERS = 4_000
MAX_DEPTH = 30
MAX_CHAIN = 120
MAX_NODES = 1_500


class _Parser(SnowflakeParser):
    # The parser knows no function: a call comes out as it was written, and the registry alone says what it means.
    # So no rewrite of sqlglot's can turn arguments around without an error.
    FUNCTIONS: ClassVar[dict[str, Any]] = {}
    NO_PAREN_FUNCTIONS: ClassVar[dict[TokenType, Any]] = {}
    NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {"CASE": SnowflakeParser.NO_PAREN_FUNCTION_PARSERS["CASE"]}
    FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
        name: SnowflakeParser.FUNCTION_PARSERS[name] for name in ("CAST", "TRY_CAST", "EXTRACT", "SUBSTRING")
    }


class _Dialect(Snowflake):
    """Snowflake's grammar with standard strings: a backslash is a backslash, a quote is doubled."""

    Parser = _Parser

    class Tokenizer(Snowflake.Tokenizer):
        STRING_ESCAPES: ClassVar[list[str]] = ["'"]


_DIALECT = _Dialect()

UNKNOWN_TYPE = (
    "unknown type after AS: use text, integer, decimal(p, s), real, boolean, date, time, timestamp, timestamptz or uuid"
)

_REFUSED_TOKENS = {
    TokenType.SEMICOLON: "only one expression is allowed: remove the semicolon",
    TokenType.SELECT: "a sub-select is not allowed here: use a lookup",
    TokenType.WITH: "a sub-select is not allowed here: use a lookup",
    TokenType.OVER: "a window (OVER) is not allowed: every record is looked at alone",
    TokenType.PARAMETER: "parameters are not allowed: write the value or a field",
    TokenType.PLACEHOLDER: "parameters are not allowed: write the value or a field",
    TokenType.SESSION_PARAMETER: "parameters are not allowed: write the value or a field",
    TokenType.COLON: "':' is not allowed: there are no parameters and no paths into a document",
    TokenType.ARROW: "lambdas and paths into a document are not allowed",
    TokenType.FARROW: "named arguments are not allowed",
    TokenType.DARROW: "paths into a document are not allowed",
    TokenType.L_BRACKET: "brackets are not allowed: there are no arrays",
    TokenType.L_BRACE: "braces are not allowed",
    TokenType.RAW_STRING: "text is written between single quotes",
    TokenType.HEX_STRING: "hexadecimal literals are not allowed",
    TokenType.BIT_STRING: "bit literals are not allowed",
    TokenType.HINT: "comments and hints are not allowed in an expression",
}

_WHAT = {
    exp.Star: "'*' is not allowed here: name the field",
    exp.Interval: "intervals are not allowed: use dateadd('day', n, x)",
    exp.AtTimeZone: "AT TIME ZONE is not allowed: the mapping's timezone counts everywhere",
    exp.Subquery: "a sub-select is not allowed here: use a lookup",
    exp.Alias: "an expression has no alias: give the name as the key of the mapping",
    exp.Tuple: "a list is allowed only after IN",
    exp.Any: "ANY is not allowed: join the conditions with OR",
    exp.Distinct: "DISTINCT is allowed only in count(distinct x)",
}

_ALLOWED: frozenset[type[exp.Expr]] = frozenset(
    {
        exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.Paren, exp.Var,
        exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.Neg, exp.DPipe,
        exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Is, exp.NullSafeEQ, exp.NullSafeNEQ,
        exp.And, exp.Or, exp.Not, exp.In, exp.Between, exp.Like, exp.ILike, exp.Escape,
        exp.Case, exp.If, exp.Cast, exp.TryCast, exp.DataType, exp.DataTypeParam, exp.Extract, exp.Substring,
        exp.Anonymous,
    }
)  # fmt: skip
_AGGREGATE_ONLY: frozenset[type[exp.Expr]] = frozenset({exp.Star, exp.Distinct})


def parse(text: str, *, aggregate: bool = False) -> exp.Expr:
    """The tree of one scalar expression. `count(*)` and `count(distinct x)` pass only when `aggregate`."""
    _check_text(text)
    tokens = _tokens(text)
    _check_tokens(text, tokens)
    try:
        trees = _DIALECT.parser().parse(tokens, text)
    except (SqlglotError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError) as error:
        raise _syntax_error(text, tokens, error) from None
    except RecursionError:
        raise ExpressionError("the expression is nested too deeply: split it", text=text) from None
    tree = trees[0] if len(trees) == 1 else None
    if tree is None:
        raise ExpressionError("exactly one expression is expected", text=text)
    _check_tree(text, tree, aggregate=aggregate)
    return tree


def position_of(node: exp.Expr, text: str = "") -> int | None:
    """Where in the text a node stands, as far as the parser kept it."""
    for each in node.walk():
        start = each.meta.get("start")
        if isinstance(start, int):
            return start
    if isinstance(node, exp.Literal) and text.count(node.name) == 1:
        return text.index(node.name)
    return None


def split_order(text: str) -> list[str]:
    """The parts of a list at its top-level commas, for `order`."""
    _check_text(text)
    tokens = _tokens(text)
    _check_tokens(text, tokens)
    parts, depth, begin = [], 0, 0
    for token in tokens:
        depth += (token.token_type is TokenType.L_PAREN) - (token.token_type is TokenType.R_PAREN)
        if token.token_type is TokenType.COMMA and depth == 0:
            parts.append(text[begin : token.start])
            begin = token.end + 1
    return [*parts, text[begin:]]


def _check_text(text: str) -> None:
    if not isinstance(text, str):
        raise ExpressionError(f"an expression is text, not {type(text).__name__}: write it between quotes")
    if not text.strip():
        raise ExpressionError("the expression is empty", text=text)
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(
            f"the expression has {len(text)} characters; at most {MAX_CHARACTERS} are allowed", text=text
        )
    bad = re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", text)
    if bad:
        raise ExpressionError("the expression holds a control character", text=text, position=bad.start())


def _tokens(text: str) -> list[Token]:
    try:
        return list(_DIALECT.tokenize(text))
    except (SqlglotError, ValueError, IndexError, OverflowError):
        raise ExpressionError("the expression cannot be read: a quote or a comment is left open", text=text) from None


def _check_tokens(text: str, tokens: list[Token]) -> None:
    if not tokens:
        raise ExpressionError("comments are not allowed in an expression, and there is nothing else here", text=text)
    depth = run = 0
    previous_end = -1
    for token in tokens:
        # What the tokenizer skipped between two tokens must be white space: everything else was a comment.
        gap = text[previous_end + 1 : token.start]
        if token.comments or gap.strip():
            where = previous_end + 1 + (len(gap) - len(gap.lstrip()))
            hint = "comments are not allowed in an expression ('//', '--' and '/* */' begin one)"
            raise ExpressionError(hint, text=text, position=where if gap.strip() else token.start)
        previous_end = token.end
        if token.token_type in _REFUSED_TOKENS:
            raise ExpressionError(_REFUSED_TOKENS[token.token_type], text=text, position=token.start)
        if token.token_type in (TokenType.L_PAREN, TokenType.CASE):
            depth += 1
        elif token.token_type in (TokenType.R_PAREN, TokenType.END):
            depth -= 1
        run = run + 1 if token.token_type in (TokenType.NOT, TokenType.DASH, TokenType.PLUS) else 0
        if depth + run > MAX_DEPTH:
            raise ExpressionError(
                f"the expression is nested more than {MAX_DEPTH} deep: split it", text=text, position=token.start
            )
    if text[previous_end + 1 :].strip():
        raise ExpressionError(
            "comments are not allowed in an expression ('//', '--' and '/* */' begin one)",
            text=text,
            position=previous_end + 1,
        )


def _syntax_error(text: str, tokens: list[Token], error: Exception) -> ExpressionError:
    details: list[dict[str, Any]] = getattr(error, "errors", None) or [{}]
    line, column = details[0].get("line"), details[0].get("col")
    found = next((each for each in tokens if each.line == line and each.col == column), None)
    before = tokens[tokens.index(found) - 1].text.upper() if found is not None and found is not tokens[0] else ""
    if found is not None and before in ("AS", "::"):
        return ExpressionError(UNKNOWN_TYPE, text=text, position=found.start)
    near = f" near {found.text!r}" if found is not None and len(found.text) <= 60 else ""
    return ExpressionError(
        f"this is not an SQL expression{near}: a word or a parenthesis is missing or misplaced"
        " (a name that is also an SQL word goes between double quotes)",
        text=text,
        position=found.start if found is not None else None,
    )


def _check_tree(text: str, tree: exp.Expr, *, aggregate: bool) -> None:
    count = 0
    stack: list[tuple[exp.Expr, int]] = [(tree, 1)]
    while stack:
        node, depth = stack.pop()
        count += 1
        if count > MAX_NODES:
            raise ExpressionError(f"the expression has more than {MAX_NODES} parts: split it", text=text)
        if type(node) not in _ALLOWED and not (aggregate and type(node) in _AGGREGATE_ONLY):
            raise ExpressionError(_refusal(node), text=text, position=position_of(node, text))
        # A chain a AND b AND c leans to one side without being nested: it is flattened later and counts once.
        for child in node.iter_expressions():
            chained = type(child) is type(node) and isinstance(node, exp.And | exp.Or | exp.DPipe)
            stack.append((child, depth if chained else depth + 1))
        if depth > MAX_CHAIN:
            raise ExpressionError(f"the expression chains more than {MAX_CHAIN} operations: split it", text=text)


def _refusal(node: exp.Expr) -> str:
    for kind, sentence in _WHAT.items():
        if isinstance(node, kind):
            return sentence
    return f"{node.key.upper()} is not part of the expression language"
