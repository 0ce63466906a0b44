"""The integration specification: one document, drawn from a compiled mapping, that both sides can sign."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta

from hub.mappings.types import Compiled, Document, Expectation
from hub.sdk import Grant

_ANOTHER = "A mapping with another digest is another mapping, and needs another specification."
_UNITS = ((86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second"), (1, "millisecond"))


def spec(compiled: Compiled) -> str:
    """Markdown: what is read, decided and written, when, with which rights, and the digest that names the version."""
    document = compiled.document
    parts = [
        f"# Integration specification: {document.title}",
        _table(("", ""), _front(compiled)),
        "## What is read",
        _table(("system", "entity", "field", "type", "why"), _reads(compiled)),
        *_selection(document),
        "## What the model is shown",
        _table(("feature", "title", "computed as", "must hold"), _features(compiled)),
        "## What is decided",
        *_decisions(document),
        "## What is written",
        _table(("field", "type", "value", "depends on"), _writes(compiled)),
        *_writing(compiled),
        "## When",
        *_timing(document),
        "## Rights needed",
        grant_text(compiled.grants),
        "## Lineage",
        _table(("target field", "source fields"), _lineage(compiled)),
        "## Version",
        f"The SHA-256 of this mapping's canonical form is `{document.digest}`. {_ANOTHER}",
        _table(("", "name", "date", "signature"), [("for the system", "", "", ""), ("for the hub", "", "", "")]),
    ]
    return "\n\n".join(parts) + "\n"


def grant_text(grants: Mapping[str, Grant]) -> str:
    """The exact rights per connection, as Markdown: nothing else is ever asked of a system."""
    parts = []
    for connection, grant in sorted(grants.items()):
        lines = [f"Connection `{connection}`:", ""]
        lines += [f"- read `{entity}`: {_names(fields)}" for entity, fields in sorted(grant.reads.items())]
        for entity, fields in sorted(grant.writes.items()):
            modes = " and ".join(sorted(grant.modes.get(entity, ())))
            lines.append(f"- {modes} `{entity}`: {_names(fields)}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def duration_text(span: timedelta) -> str:
    """`30 days`, `15 minutes`, `1 day`: in the largest unit that divides it."""
    milliseconds = round(span / timedelta(milliseconds=1))
    for size, unit in _UNITS:
        if milliseconds % size == 0:
            count = milliseconds // size
            return f"{count:,} {unit}{'' if count == 1 else 's'}"
    raise AssertionError("unreachable")


def _front(compiled: Compiled) -> Iterator[tuple[str, ...]]:
    document, model = compiled.document, compiled.model
    yield "mapping", document.mapping
    yield "purpose", document.purpose
    yield "owner", document.owner
    yield "model", f"{model.name} version {model.number} ({model.signature.task.value}), used as {document.model.use}"
    yield "model owner", model.owner
    yield "model digest", f"`{model.digest}`"


def _reads(compiled: Compiled) -> Iterator[tuple[str, ...]]:
    read = compiled.document.read
    reasons = _why_read(compiled)
    for field in compiled.source.fields:
        if field.name in reasons:
            yield read.connection, compiled.source.name, field.name, field.type.value, ", ".join(reasons[field.name])
    for each in compiled.lookups:
        for field in each.entity.fields:
            if field.name in each.fields:
                why = f"lookup {each.lookup.name}"
                yield each.lookup.connection, each.entity.name, field.name, field.type.value, why


def _why_read(compiled: Compiled) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}

    def add(names: Iterable[str], why: str) -> None:
        for name in names:
            if name in compiled.source.by_name and why not in reasons.setdefault(name, []):
                reasons[name].append(why)

    add(compiled.source.key, "key")
    if compiled.where is not None:
        add(compiled.where.columns, "selection")
    if compiled.document.read.changed_by is not None:
        add((compiled.document.read.changed_by,), "tells what changed")
    for name, each in compiled.features.items():
        add(each.columns, f"feature {name}")
    for lookup in compiled.lookups:
        for each in lookup.match.values():
            add(each.columns, f"lookup {lookup.lookup.name}")
    for each in (compiled.key or {}).values():
        add(each.columns, "key of the target")
    if compiled.in_place:
        add((*compiled.set, *compiled.with_), "value before the write")
    return reasons


def _selection(document: Document) -> Iterator[str]:
    read = document.read
    if read.where is not None:
        yield f"Only records for which {_code(read.where)} is true. Days and months are those of {read.timezone}."
    else:
        yield f"Every record. Days and months are those of {read.timezone}."
    for lookup in document.lookups:
        on = " and ".join(f"`{name}` = {_code(text)}" for name, text in lookup.match.items())
        taken = {"one": "the one record", "first": f"the first record by {_code(lookup.order or '')}"}
        what = taken[lookup.take] if lookup.take is not None else "all records"
        folds = ", ".join(f"`{name}` = {_code(text)}" for name, text in (lookup.aggregate or {}).items())
        also = f", of those for which {_code(lookup.where)} is true" if lookup.where is not None else ""
        without = {"null": "the values are missing", "hold": "the record is held", "invalid": "the record is invalid"}
        yield (
            f"Lookup **{lookup.name}**: {what} of `{lookup.entity}` ({lookup.connection}) where {on}{also}"
            f"{f', folded to {folds}' if folds else ''}."
            f" Without a match, {without[lookup.missing]}."
        )


def _features(compiled: Compiled) -> Iterator[tuple[str, ...]]:
    for feature in compiled.document.features:
        rules = [_expectation(each) for each in compiled.document.expect if each.feature == feature.name]
        yield feature.name, feature.title, _code(feature.text), "; ".join(rules)


def _expectation(expectation: Expectation) -> str:
    said = []
    if expectation.required:
        said.append("not missing")
    if expectation.minimum is not None:
        said.append(f"at least {_number(expectation.minimum)}")
    if expectation.maximum is not None:
        said.append(f"at most {_number(expectation.maximum)}")
    if expectation.among is not None:
        said.append("one of " + ", ".join(str(each) for each in expectation.among))
    return f"{', '.join(said)} (else {'held' if expectation.otherwise == 'hold' else 'invalid'})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,}"


def _decisions(document: Document) -> Iterator[str]:
    yield _table(("name", "computed as"), ((name, _code(text)) for name, text in document.decide.set.items()))
    fallback = document.decide.fallback
    if fallback is not None:
        instead = ", ".join(f"`{name}` is {_code(text)}" for name, text in fallback.set.items())
        yield f"Where {_code(fallback.when)}, {instead} instead, because: {fallback.because}."
    if document.decide.hold is not None:
        yield f"A record for which {_code(document.decide.hold)} goes to a person and is not written."


def _writes(compiled: Compiled) -> Iterator[tuple[str, ...]]:
    document = compiled.document
    for fields, texts in ((compiled.set, document.write.set), (compiled.with_, document.write.with_)):
        for name in fields:
            kind = compiled.target.by_name[name].type.value
            yield name, kind, _code(texts[name]), _fields_counted(len(compiled.lineage[name]))


def _fields_counted(count: int) -> str:
    return f"{count} source field{'' if count == 1 else 's'}" if count else "none: set by the hub"


def _writing(compiled: Compiled) -> Iterator[str]:
    write = compiled.document.write
    where = f"`{compiled.target.name}` of connection `{write.connection}`"
    if compiled.in_place:
        yield f"The record read is updated: {where}. No record is ever created or deleted."
    else:
        key = ", ".join(f"`{name}` = {_code(text)}" for name, text in (write.key or {}).items())
        yield f"Mode {write.mode} of {where}, found by {key}. No record is ever deleted."
    yield f"{_names(write.set)} are written together or not at all, and only when one of them changed."
    if write.with_:
        yield f"{_names(write.with_)} travel along and never cause a write."
    for name, least in write.when_changed.items():
        yield f"A difference of `{name}` below {least:g} alone is not written."
    if write.expires is not None:
        then = "is cleared" if write.expires.then == "clear" else "stays and is shown as stale"
        yield f"A score holds for {duration_text(write.expires.after)}; after that it {then}."
    if compiled.document.read.leaves == "clear":
        yield "When a record leaves the selection, its score is cleared."
    else:
        yield "When a record leaves the selection, its score stays."


def _timing(document: Document) -> Iterator[str]:
    run, read = document.run, document.read
    yield f"Runs start by the schedule `{run.schedule}` ({read.timezone})." if run.schedule else "Runs start on demand."
    if run.follow:
        yield f"Between them each change is scored as connection `{read.connection}` tells of it."
    if read.changed_by is not None:
        yield f"A run reads what changed by `{read.changed_by}` since the last one."
    if read.refresh is not None:
        yield f"Everything is read again after {duration_text(read.refresh)}."
    if run.changed is not None:
        yield f"A run that would write more than {run.changed:,} records holds before it does, until a person decides."
    if run.rejected is not None:
        yield f"A run stops when more than {100 * run.rejected:g} % of the last 1,000 written were rejected."
    if run.ahead:
        yield "Everything is scored before anything is written."
    if run.deadline is not None:
        yield f"On request, an answer comes within {duration_text(run.deadline)}; after that the fallback answers."


def _lineage(compiled: Compiled) -> Iterator[tuple[str, ...]]:
    for name, sources in compiled.lineage.items():
        yield name, ", ".join(f"`{each}`" for each in sorted(sources)) or "none: set by the hub"


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{each}`" for each in sorted(names))


def _code(text: str) -> str:
    """Code for a table cell: one line, and a fence longer than any run of backticks inside."""
    flat = " ".join(text.split())
    fence = "``" if "`" in flat else "`"
    return f"{fence}{flat}{fence}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )
