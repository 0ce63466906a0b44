"""A drawer of bad documents: each slip gives its own sentence, at its own line, and none hides another."""

from __future__ import annotations

import pytest

from hub.mappings.document import read_document
from hub.mappings.types import MappingError

HEAD = """\
format: 1
mapping: lead_score
title: Lead score
owner: sales
purpose: Rank leads
"""
READ = """\
read:
  connection: crm
  entity: Lead
"""
REST = """\
features:
  size: "coalesce(Employees, 0)"
model: { name: lead_conversion }
decide:
  score: "round(100 * probability)"
write:
  mode: update
  set: { Score: score }
"""
WHOLE = HEAD + READ + REST


def problems(text: str) -> list[str]:
    """What the reader says of a text, as it is printed."""
    try:
        read_document(text)
    except MappingError as error:
        return [str(each) for each in error.problems]
    return []


def test_the_drawer_starts_from_a_good_document() -> None:
    assert problems(WHOLE) == []


DRAWER: dict[str, tuple[str, str, list[str]]] = {
    "a misspelt key": (
        "  entity: Lead",
        "  entity: Lead\n  wehre: x",
        [
            (
                "line 9: read.wehre: is no key here; did you mean where? Known: connection, entity, where, changed_by,"
                " refresh, timezone, leaves"
            )
        ],
    ),
    "a key like nothing known": (
        "model: { name: lead_conversion }",
        "model: { name: lead_conversion, zzz: 1 }",
        ["line 11: model.zzz: is no key here; known: name, use, choose, canary, shadow"],
    ),
    "a missing key": (
        "owner: sales\n",
        "",
        ["line 1: document: needs owner: who answers for it"],
    ),
    "a missing key inside": (
        "  entity: Lead\n",
        "",
        ["line 6: read: needs entity: the entity whose records are scored"],
    ),
    "a key without its value": (
        "owner: sales",
        "owner:",
        ["line 4: owner: has no value; give one, or remove the key"],
    ),
    "a number for text": (
        "title: Lead score",
        "title: 12",
        ["line 3: title: expected text, found the number 12; put it in quotes"],
    ),
    "a list for text": ("title: Lead score", "title: [a]", ["line 3: title: expected text, found a list"]),
    "text for a map": (
        "model: { name: lead_conversion }",
        "model: lead_conversion",
        ["line 11: model: expected a map (key: value), found 'lead_conversion'"],
    ),
    "another format": ("format: 1", "format: 2", ["line 1: format: expected 1, found the number 2"]),
    "a capital in the name": (
        "mapping: lead_score",
        "mapping: LeadScore",
        [
            (
                "line 2: mapping: 'LeadScore' is no name: small letters, digits and _, a letter first,"
                " at most 63 characters"
            )
        ],
    ),
    "a duplicate key": (
        "owner: sales",
        "owner: sales\nowner: marketing",
        ["line 5: owner: stands twice, first on line 4; keep one"],
    ),
    "a tab": (
        "  entity: Lead",
        "\tentity: Lead",
        ["line 8: document: is indented with a tab; YAML takes spaces only"],
    ),
    "an alias": (
        "title: Lead score",
        "title: &t Lead score\nother: *t",
        ["line 4: document: an alias (*name) is no part of a mapping document; write the value again"],
    ),
    "a tag": (
        "title: Lead score",
        "title: !!python/name:os.system x",
        [
            (
                "line 3: title: a tag (tag:yaml.org,2002:python/name:os.system) is no part of a mapping document;"
                " remove it"
            )
        ],
    ),
    "a second document": (
        "owner: sales",
        "owner: sales\n---\nformat: 1",
        ["line 5: document: is more than one document; a file holds one mapping, so remove what follows '---'"],
    ),
    "an unquoted colon": (
        'decide:\n  score: "round(100 * probability)"',
        "decide:\n  score: a: b",
        [
            (
                "line 13: document: is not YAML here: mapping values are not allowed here"
                " (text with ': ' or '#' in it needs quotes)"
            )
        ],
    ),
    "an open quote": (
        "title: Lead score",
        "title: 'Lead score",
        ["line 17: document: is not YAML here: found unexpected end of stream"],
    ),
    "a control character": (
        "title: Lead score",
        "title: Lead\x01score",
        ["line 3: document: holds a control character, which no text may"],
    ),
    "half a character by an escape": (
        "title: Lead score",
        'title: "Lead \\ud800"',
        ["line 3: title: holds an escape for a control character or half a character; remove it"],
    ),
    "a control character in a key by an escape": (
        "title: Lead score",
        '"ti\\0tle": Lead score',
        ["line 3: document: holds an escape for a control character or half a character; remove it"],
    ),
    "a number with leading zeros": (
        "title: Lead score",
        "title: 007",
        ["line 3: title: 007 could be text or a number; write '007' in quotes, or the number without zeros in front"],
    ),
    "a number JSON cannot keep": (
        "title: Lead score",
        "title: 90071992547409930",
        ["line 3: title: is a number beyond 2^53, which JSON cannot keep exactly; write it in quotes"],
    ),
    "a duration without its unit": (
        "  entity: Lead",
        "  entity: Lead\n  refresh: 30",
        [("line 9: read.refresh: expected a duration with its unit, such as 15m, 1d or 100ms, found the number 30")],
    ),
    "a duration of an unknown unit": (
        "  entity: Lead",
        "  entity: Lead\n  refresh: 3y",
        ["line 9: read.refresh: expected a duration such as 15m, 1d or 100ms, found '3y'"],
    ),
    "a time zone with a slip": (
        "  entity: Lead",
        "  entity: Lead\n  timezone: Europe/Berln",
        [("line 9: read.timezone: 'Europe/Berln' is no time zone; did you mean Europe/Berlin?")],
    ),
    "a choice that is none": (
        "  mode: update",
        "  mode: updaet",
        ["line 15: write.mode: expected update, upsert or create, found 'updaet'; did you mean update?"],
    ),
    "a share as a number": (
        "write:",
        "run: { limits: { rejected: 0.01 } }\nwrite:",
        [
            (
                "line 14: run.limits.rejected: expected a share above 0% and up to 100%, such as 1% or 0.5%,"
                " found the number 0.01"
            )
        ],
    ),
    "a limit of nothing": (
        "write:",
        "run: { limits: { changed: 0 } }\nwrite:",
        ["line 14: run.limits.changed: expected a whole number above 0"],
    ),
    "a schedule with a bad minute": (
        "write:",
        'run: { schedule: "61 * * * *" }\nwrite:',
        ["line 14: run.schedule: is no cron schedule: bad minute; expected such as '*/15 * * * *'"],
    ),
    "a schedule of six fields": (
        "write:",
        'run: { schedule: "0 0 * * * *" }\nwrite:',
        ["line 14: run.schedule: expected a cron schedule of five fields, such as '*/15 * * * *'"],
    ),
    "a schedule that never comes": (
        "write:",
        'run: { schedule: "0 0 30 2 *" }\nwrite:',
        ["line 14: run.schedule: is no cron schedule: bad day-of-month; expected such as '*/15 * * * *'"],
    ),
    "what is not yet available": (
        "model: { name: lead_conversion }",
        (
            'model:\n  name: lead_conversion\n  choose: [{ when: "x = 1", model: other }]\n'
            "  canary: { alias: candidate, share: 10% }\n  shadow: [next]"
        ),
        [
            "line 13: model.choose: is not yet available; remove it for now",
            "line 14: model.canary: is not yet available; remove it for now",
            "line 15: model.shadow: is not yet available; remove it for now",
        ],
    ),
    "not yet available, and in a bad shape": (
        "model: { name: lead_conversion }",
        "model: { name: lead_conversion, canary: { alias: candidate, share: 0% } }",
        [("line 11: model.canary.share: expected a share above 0% and up to 100%, such as 1% or 0.5%, found '0%'")],
    ),
    "a lookup that takes and folds": (
        "features:",
        'lookups:\n  a: { entity: A, match: { x: y }, take: one, aggregate: { n: "count(*)" } }\nfeatures:',
        ["line 10: lookups.a.take: cannot stand beside aggregate: a lookup takes a record or folds them"],
    ),
    "first without order": (
        "features:",
        "lookups:\n  a: { entity: A, match: { x: y }, take: first }\nfeatures:",
        [('line 10: lookups.a.take: first needs order, such as order: "TakenAt desc", to say which is first')],
    ),
    "order without first": (
        "features:",
        "lookups:\n  a: { entity: A, match: { x: y }, order: x }\nfeatures:",
        ["line 10: lookups.a.order: belongs to take: first; add it, or remove order"],
    ),
    "a lookup without a match": (
        "features:",
        "lookups:\n  a: { entity: A, match: {} }\nfeatures:",
        ["line 10: lookups.a.match: is empty; give at least one entry"],
    ),
    "an unknown way to miss": (
        "features:",
        "lookups:\n  a: { entity: A, match: { x: y }, missing: hald }\nfeatures:",
        ["line 10: lookups.a.missing: expected null, hold or invalid, found 'hald'; did you mean hold?"],
    ),
    "a feature that is a list": (
        '  size: "coalesce(Employees, 0)"',
        "  size: [a]",
        ["line 10: features.size: expected text, found a list"],
    ),
    "a feature without its expression": (
        '  size: "coalesce(Employees, 0)"',
        "  size: { title: Size }",
        ["line 10: features.size: needs is: the expression over fields and lookups"],
    ),
    "a feature with a reserved name": (
        '  size: "coalesce(Employees, 0)"',
        '  _key: "1"',
        ["line 10: features._key: _key is a name of the hub's own; choose another"],
    ),
    "an expectation of nothing": (
        "model:",
        "expect: { size: {} }\nmodel:",
        ["line 11: expect.size: expects nothing; give min, max, in or required"],
    ),
    "bounds the wrong way round": (
        "model:",
        "expect: { size: { min: 3, max: 2 } }\nmodel:",
        ["line 11: expect.size.min: is above max"],
    ),
    "a list of mixed kinds": (
        "model:",
        "expect: { size: { in: [a, 1] } }\nmodel:",
        [("line 11: expect.size.in: mixes kinds of values; give text only, numbers only, or true and false")],
    ),
    "a map in a list of values": (
        "model:",
        "expect: { size: { in: [{ a: 1 }] } }\nmodel:",
        ["line 11: expect.size.in[0]: expected text, a number, true or false, found a map"],
    ),
    "a version below one": (
        "model: { name: lead_conversion }",
        "model: { name: lead_conversion, use: 0 }",
        [("line 11: model.use: expected an alias such as champion, or a version number, found the number 0")],
    ),
    "nothing decided": (
        '  score: "round(100 * probability)"',
        '  hold: "size = 0"',
        ['line 12: decide: decides nothing; give at least one name, such as score: "round(100 * probability)"'],
    ),
    "a decided name of the hub's": (
        '  score: "round',
        '  scored_at: "now()"\n  score: "round',
        ["line 13: decide.scored_at: scored_at is a name that the hub gives itself; choose another"],
    ),
    "a decided name with a capital": (
        '  score: "round',
        '  Band: "1"\n  score: "round',
        [
            (
                "line 13: decide.Band: 'Band' is no name: small letters, digits and _, a letter first,"
                " at most 63 characters"
            )
        ],
    ),
    "a fallback of nothing decided": (
        "write:",
        '  fallback: { when: "size = 0", set: { scor: "0" }, because: too small }\nwrite:',
        ["line 14: decide.fallback.set.scor: scor is not decided above; did you mean score?"],
    ),
    "upsert without target": (
        "  mode: update",
        "  mode: upsert",
        [
            "line 15: write.mode: upsert needs entity, the entity written",
            "line 15: write.mode: upsert needs key, such as key: { TargetKey: OurField }",
        ],
    ),
    "a key for the record read": (
        "  mode: update",
        "  mode: update\n  key: { Id: Id }",
        ["line 16: write.key: belongs to another target; update without entity writes the record read"],
    ),
    "a connection without entity": (
        "  mode: update",
        "  mode: update\n  connection: erp",
        ["line 16: write.connection: needs entity beside it: which entity of that connection is written"],
    ),
    "a field written twice": (
        "  set: { Score: score }",
        "  set: { Score: score }\n  with: { Score: scored_at }",
        ["line 17: write.with.Score: stands in set already; a field is written by one of them"],
    ),
    "a difference of what is not set": (
        "  set: { Score: score }",
        "  set: { Score: score }\n  when_changed: { Scor: 1, Score: 0 }",
        [
            "line 17: write.when_changed.Scor: Scor is not written by set; did you mean Score?",
            "line 17: write.when_changed.Score: expected a difference above 0",
        ],
    ),
}


@pytest.mark.parametrize("name", DRAWER)
def test_each_slip_gives_its_own_sentence_and_line(name: str) -> None:
    old, new, expected = DRAWER[name]
    assert WHOLE.count(old) == 1
    assert problems(WHOLE.replace(old, new)) == expected


def test_many_slips_are_told_at_once_in_the_order_of_their_lines() -> None:
    slips = (
        WHOLE.replace("owner: sales", "owner:")
        .replace("  entity: Lead", "  entity: Lead\n  leaves: stay")
        .replace("  mode: update", "  mode: upsert")
        .replace("model: { name: lead_conversion }", "model: { name: lead_conversion, shadow: [next] }")
    )
    said = problems(slips)
    assert [each.partition(":")[0] for each in said] == ["line 4", "line 9", "line 12", "line 16", "line 16"]
    assert said[1] == "line 9: read.leaves: expected keep or clear, found 'stay'"


def test_every_line_indented_with_a_tab_is_named() -> None:
    tabbed = WHOLE.replace("  mode:", "\tmode:").replace("  entity:", "\tentity:")
    assert [each.partition(": ")[0] for each in problems(tabbed)] == ["line 8", "line 15"]


def test_an_empty_text_says_where_to_look() -> None:
    assert problems("# nothing\n") == ["line 1: document: is empty; see 'hub mappings schema' for what belongs in it"]


def test_a_list_is_no_document() -> None:
    assert problems("- a\n- b\n") == ["line 1: document: expected a map (key: value), found a list"]


def test_a_text_of_more_than_256_kb_is_refused_unread() -> None:
    assert problems(WHOLE + "#" * 262_144) == [
        "line 1: document: is larger than 256 kB; a mapping document is a few hundred lines"
    ]


def test_deep_nesting_is_refused_before_it_costs_anything() -> None:
    assert problems("a: " + "[" * 5000) == ["line 1: a[0][0][0][0][0][0]: is nested more than 8 levels deep"]
