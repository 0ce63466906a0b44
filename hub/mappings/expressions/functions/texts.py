"""Text: cutting, searching, padding, patterns, hashing. Characters are Unicode code points."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import polars as pl

from hub.mappings.expressions.functions.casts import cast_node
from hub.mappings.expressions.functions.registry import Call, Emitted, accept, function, operation
from hub.mappings.expressions.types import BOOLEAN, INTEGER, TEXT, Node
from hub.sdk import FieldType

GROUP = "Text"
MAX_PAD = 1_000


@function("lower", "x text", TEXT, group=GROUP, rule="In lower case.", examples=[("lower('ÄbC')", "äbc")])
def _lower(_node: Node, x: pl.Expr) -> Emitted:
    return x.str.to_lowercase()


@function("upper", "x text", TEXT, group=GROUP, rule="In upper case.", examples=[("upper('äbC')", "ÄBC")])
def _upper(_node: Node, x: pl.Expr) -> Emitted:
    return x.str.to_uppercase()


def _strip_set(node: Node) -> str | None:
    return str(node.params[0]) if node.params else None


@function(
    "trim",
    "x text, characters text!?",
    TEXT,
    group=GROUP,
    rule="Without white space, or the characters listed, at both ends.",
    examples=[("trim('  a b ')", "a b"), ("trim('xxaxx', 'x')", "a")],
)
def _trim(node: Node, x: pl.Expr) -> Emitted:
    return x.str.strip_chars(_strip_set(node))


@function(
    "ltrim",
    "x text, characters text!?",
    TEXT,
    group=GROUP,
    rule="Without white space, or the characters listed, at the beginning.",
    examples=[("ltrim('00120', '0')", "120")],
)
def _ltrim(node: Node, x: pl.Expr) -> Emitted:
    return x.str.strip_chars_start(_strip_set(node))


@function(
    "rtrim",
    "x text, characters text!?",
    TEXT,
    group=GROUP,
    rule="Without white space, or the characters listed, at the end.",
    examples=[("rtrim('abc  ')", "abc")],
)
def _rtrim(node: Node, x: pl.Expr) -> Emitted:
    return x.str.strip_chars_end(_strip_set(node))


@function(
    "length",
    "x text",
    INTEGER,
    group=GROUP,
    aliases=("len", "char_length"),
    rule="The number of characters.",
    examples=[("length('Größe')", "5"), ("length('')", "0")],
)
def _length(_node: Node, x: pl.Expr) -> Emitted:
    return x.str.len_chars().cast(pl.Int64)


@function(
    "substr",
    "x text, start integer, count integer?",
    TEXT,
    group=GROUP,
    aliases=("substring", "mid"),
    rule="The characters from a place on, counted from 1; a negative start counts from the end, and beyond it is ''.",
    examples=[("substr('abcdef', 2, 3)", "bcd"), ("substr('abcdef', -2)", "ef"), ("substr('abc', 9)", "''")],
)
def _substr(_node: Node, x: pl.Expr, start: pl.Expr, count: pl.Expr | None = None) -> Emitted:
    size = x.str.len_chars().cast(pl.Int64)
    edge = 2**31
    begin = start.clip(-edge, edge)
    offset = pl.when(begin > 0).then(begin - 1).when(begin == 0).then(0).otherwise(size + begin)
    room = pl.lit(edge, dtype=pl.Int64) if count is None else count.clip(0, edge)
    value = x.str.slice(offset.clip(0, edge), pl.when(offset < 0).then(0).otherwise(room))
    known = start.is_not_null() if count is None else start.is_not_null() & count.is_not_null()
    return pl.when(known).then(value)


@function(
    "left",
    "x text, count integer",
    TEXT,
    group=GROUP,
    rule="The first characters; none for a negative count.",
    examples=[("left('abc', 2)", "ab"), ("left('abc', -1)", "''")],
)
def _left(_node: Node, x: pl.Expr, count: pl.Expr) -> Emitted:
    return x.str.head(count.clip(0, 2**31))


@function(
    "right",
    "x text, count integer",
    TEXT,
    group=GROUP,
    rule="The last characters; none for a negative count.",
    examples=[("right('abc', 2)", "bc"), ("right('abc', 9)", "abc")],
)
def _right(_node: Node, x: pl.Expr, count: pl.Expr) -> Emitted:
    return x.str.tail(count.clip(0, 2**31))


@function(
    "concat",
    "x text, more text*",
    TEXT,
    group=GROUP,
    rule="All texts in one, also written x || y; null where one of them is null.",
    examples=[("concat('a', 'b', 'c')", "abc"), ("'a' || null", "null")],
)
def _concat(_node: Node, *args: pl.Expr) -> Emitted:
    return pl.concat_str(args)


@function(
    "replace",
    "x text, find text!, with text!",
    TEXT,
    group=GROUP,
    rule="Every occurrence of one text replaced by another; both are literals.",
    examples=[("replace('a.b.c', '.', '-')", "a-b-c"), ("replace('abc', '', 'x')", "abc")],
)
def _replace(node: Node, x: pl.Expr) -> Emitted:
    find, replacement = (str(each) for each in node.params)
    return x.str.replace_all(find, replacement, literal=True) if find else x


def _split_type(call: Call) -> Node:
    if len(call.args) != 3:
        raise call.fail(f"{len(call.args)} arguments given, expected split_part(x, separator, n)")
    x, separator = (accept(call, each, "text", "the text") for each in call.args[:2])
    place = accept(call, call.args[2], "integer", "n")
    if not separator.constant or not separator.params[0]:
        raise call.fail("the separator must be a text literal that is not empty")
    if not place.constant or not place.params[0] or abs(int(str(place.params[0]))) > 1_000:
        raise call.fail("n must be a whole number other than 0, written as a literal")
    return Node("split_part", TEXT, (x,), (separator.params[0], place.params[0]))


@function(
    "split_part",
    "x text, separator text!, n integer!",
    None,
    group=GROUP,
    resolve=_split_type,
    rule="The n-th part between separators, from the end if n is negative; '' where there is none.",
    examples=[
        ("split_part('a@b.c', '@', 2)", "b.c"),
        ("split_part('a-b', '-', 5)", "''"),
        ("split_part('a-b', '-', -1)", "b"),
    ],
)
def _split_part(node: Node, x: pl.Expr) -> Emitted:
    separator, place = node.params
    assert isinstance(place, int)
    parts = x.str.split(str(separator))
    part = parts.list.get(place - 1 if place > 0 else place, null_on_oob=True)
    return pl.when(x.is_not_null()).then(part.fill_null(""))


@function(
    "starts_with",
    "x text, prefix text",
    BOOLEAN,
    group=GROUP,
    aliases=("startswith",),
    rule="Whether a text begins with another; case counts.",
    examples=[("starts_with('abc', 'ab')", "true")],
)
def _starts_with(_node: Node, x: pl.Expr, prefix: pl.Expr) -> Emitted:
    return x.str.starts_with(prefix)


@function(
    "ends_with",
    "x text, suffix text",
    BOOLEAN,
    group=GROUP,
    aliases=("endswith",),
    rule="Whether a text ends with another; case counts.",
    examples=[("ends_with('abc', 'BC')", "false")],
)
def _ends_with(_node: Node, x: pl.Expr, suffix: pl.Expr) -> Emitted:
    return x.str.ends_with(suffix)


@function(
    "contains",
    "x text, part text",
    BOOLEAN,
    group=GROUP,
    rule="Whether a text holds another; case counts.",
    examples=[("contains('a.c', '.')", "true"), ("contains('abc', '.')", "false")],
)
def _contains(_node: Node, x: pl.Expr, part: pl.Expr) -> Emitted:
    return x.str.contains(part, literal=True)


@function(
    "position",
    "part text!, x text",
    INTEGER,
    group=GROUP,
    aliases=("charindex",),
    signature="position(part, x)",
    rule="Where a literal text first stands in another, from 1; 0 where it does not. Also position(part in x).",
    examples=[("position('b', 'abc')", "2"), ("position('ö' in 'schön')", "4"), ("position('z', 'abc')", "0")],
)
def _position(node: Node, x: pl.Expr) -> Emitted:
    part = str(node.params[0])
    if not part:
        return pl.when(x.is_not_null()).then(1).cast(pl.Int64)
    before = x.str.splitn(part, 2).struct[0].str.len_chars().cast(pl.Int64)
    return pl.when(x.str.contains(part, literal=True)).then(before + 1).when(x.is_not_null()).then(0)


def _padding(call: Call) -> Node:
    if len(call.args) not in (2, 3):
        raise call.fail(f"{len(call.args)} arguments given, expected {call.name}(x, count, [character])")
    x = accept(call, call.args[0], "text", "x")
    count = accept(call, call.args[1], "integer", "count")
    fill = accept(call, call.args[2], "text", "the character") if len(call.args) == 3 else None
    size = count.params[0] if count.constant else None
    if not isinstance(size, int) or not 0 <= size <= MAX_PAD:
        raise call.fail(f"count must be a whole number from 0 to {MAX_PAD}, written as a literal")
    letter = " " if fill is None else (str(fill.params[0]) if fill.constant else "")
    if len(letter) != 1:
        raise call.fail("the character must be one character between quotes")
    return Node(call.name, TEXT, (x,), (size, letter))


@function(
    "lpad",
    "x text, count integer!, character text!?",
    None,
    group=GROUP,
    resolve=_padding,
    rule="Filled at the beginning, by a blank if none is given, to so many characters; cut where it is longer.",
    examples=[("lpad('7', 3, '0')", "007"), ("lpad('abcd', 2)", "ab")],
)
def _lpad(node: Node, x: pl.Expr) -> Emitted:
    size, letter = node.params
    assert isinstance(size, int)
    return x.str.head(size).str.pad_start(size, str(letter))


@function(
    "rpad",
    "x text, count integer!, character text!?",
    None,
    group=GROUP,
    resolve=_padding,
    rule="Filled at the end, by a blank if none is given, to so many characters; cut where it is longer.",
    examples=[("rpad('7', 3, '0')", "700"), ("rpad('abcd', 2)", "ab")],
)
def _rpad(node: Node, x: pl.Expr) -> Emitted:
    size, letter = node.params
    assert isinstance(size, int)
    return x.str.head(size).str.pad_end(size, str(letter))


def _pattern(call: Call, node: Node) -> str:
    if not node.constant or not isinstance(node.params[0], str):
        raise call.fail("the pattern must be a text literal")
    pattern = node.params[0]
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.PolarsError:
        raise call.fail(
            "the pattern is no regular expression (look-around and back-references are not allowed)"
        ) from None
    return pattern


def _regexp(call: Call) -> Node:
    if len(call.args) != 2:
        raise call.fail(f"{len(call.args)} arguments given, expected regexp_like(x, pattern)")
    return Node("regexp_like", BOOLEAN, (accept(call, call.args[0], "text", "x"),), (_pattern(call, call.args[1]),))


@function(
    "regexp_like",
    "x text, pattern text!",
    None,
    group=GROUP,
    resolve=_regexp,
    rule="Whether the whole text matches a regular expression (Rust syntax: no look-around, time linear in the text).",
    examples=[("regexp_like('A-12', '[A-Z]-[0-9]+')", "true"), ("regexp_like('xA-12', '[A-Z]-[0-9]+')", "false")],
)
def _regexp_like(node: Node, x: pl.Expr) -> Emitted:
    return x.str.contains(rf"\A(?:{node.params[0]!s})\z")


def like_node(node: Node, pattern: str, escape: str, *, blind: bool) -> Node | None:
    """The node of `x LIKE pattern`; None where the escape character stands before something it cannot escape."""
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        if escape and letter == escape:
            at += 1
            if at >= len(pattern) or pattern[at] not in (escape, "%", "_"):
                return None
            parts.append(_literal(pattern[at]))
        else:
            parts.append({"%": ".*", "_": "."}.get(letter) or _literal(letter))
        at += 1
    flags = "(?si)" if blind else "(?s)"
    return Node("like", BOOLEAN, (node,), (rf"{flags}\A{''.join(parts)}\z",))


def _literal(letter: str) -> str:
    return pl.escape_regex(letter)


@operation("like")
def _like(node: Node, x: pl.Expr) -> Emitted:
    return x.str.contains(str(node.params[0]))


_DIGESTS = {
    "md5": hashlib.md5,
    "224": hashlib.sha224,
    "256": hashlib.sha256,
    "384": hashlib.sha384,
    "512": hashlib.sha512,
}
HASHING = "Hashing and bucketing"


def _hashed(call: Call, node: Node) -> Node:
    if node.type.kind not in (FieldType.TEXT, FieldType.UUID, FieldType.JSON, FieldType.INTEGER, FieldType.DATE, None):
        raise call.fail(f"x must be text, an integer or a date, not {node.type}; use cast(… as text)")
    made = cast_node(node, TEXT, call.timezone, lenient=False)
    assert made is not None
    return made


def _digest_type(call: Call) -> Node:
    sized = call.name == "sha2"
    if len(call.args) not in ((1, 2) if sized else (1,)):
        raise call.fail(f"{len(call.args)} arguments given, expected {call.name}(x{', [bits]' if sized else ''})")
    bits = str(call.args[1].params[0]) if len(call.args) == 2 and call.args[1].constant else "256"
    if (len(call.args) == 2 and not call.args[1].constant) or bits not in _DIGESTS:
        raise call.fail("bits must be 224, 256, 384 or 512")
    return Node("digest", TEXT, (_hashed(call, call.args[0]),), ("md5" if call.name == "md5" else bits,))


def _per_text(x: pl.Expr, digest: Callable[[str], object], result: pl.DataType) -> pl.Expr:
    # polars has no stable hash of its own: its `hash` differs between versions and builds.
    def apply(column: pl.Series) -> pl.Series:
        return pl.Series([None if each is None else digest(each) for each in column], dtype=result)

    return x.map_batches(apply, return_dtype=result, is_elementwise=True)


def _digest(node: Node, x: pl.Expr) -> Emitted:
    algorithm = _DIGESTS[str(node.params[0])]
    return _per_text(x, lambda text: algorithm(text.encode(), usedforsecurity=False).hexdigest(), pl.String())


operation("digest")(_digest)
function(
    "sha2",
    "x any, bits integer!?",
    None,
    group=HASHING,
    resolve=_digest_type,
    aliases=("sha256", "hash"),
    rule="The SHA-2 digest of the UTF-8 text in lower-case hex; 256 bits if not said otherwise."
    " A hash hides nothing that can be guessed: it is no encryption.",
    examples=[("left(sha2('abc'), 8)", "ba7816bf"), ("length(sha2('abc', 512))", "128")],
)(_digest)
function(
    "md5",
    "x any",
    None,
    group=HASHING,
    resolve=_digest_type,
    rule="The MD5 digest of the UTF-8 text in lower-case hex: to match old systems, not for secrecy.",
    examples=[("md5('abc')", "900150983cd24fb0d6963f7d28e17f72")],
)(_digest)


def _bucket_type(call: Call) -> Node:
    if len(call.args) != 2:
        raise call.fail(f"{len(call.args)} arguments given, expected bucket(x, n)")
    count = call.args[1].params[0] if call.args[1].constant else None
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 1_000_000:
        raise call.fail("n must be a whole number from 1 to 1,000,000, written as a literal")
    return Node("bucket", INTEGER, (_hashed(call, call.args[0]),), (count,))


@function(
    "bucket",
    "x any, n integer!",
    None,
    group=HASHING,
    resolve=_bucket_type,
    rule="A number from 0 to n - 1 that never changes for the same x: the first 8 bytes of the SHA-256 of its text,"
    " as a big-endian whole number, modulo n.",
    examples=[("bucket('abc', 10)", "4"), ("bucket(42, 1)", "0")],
)
def _bucket(node: Node, x: pl.Expr) -> Emitted:
    count = node.params[0]
    assert isinstance(count, int)

    def place(text: str) -> int:
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % count

    return _per_text(x, place, pl.Int64())
