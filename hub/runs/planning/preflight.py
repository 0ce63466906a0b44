"""Preflight: whether a mapping still fits its far sides, and what its logins may do beyond or short of the need."""

from __future__ import annotations

from hub.logs import Log
from hub.mappings import Compiled, MappingError, Published
from hub.runs.installation import Installation
from hub.runs.pages.shape import changes_since
from hub.runs.types import PreflightError
from hub.sdk import CheckReport, ConnectorError, Context, Grant, Mode

HIDDEN = (
    "it fitted when it was published: a field that is unknown now was taken away, or is hidden from this login; then"
    " ask its administrator for the right to read it, and to edit it where the mapping writes it"
)
MOST_NAMED = 20

log = Log(__name__)


def preflight(hub: Installation, published: Published) -> Compiled:
    """The mapping compiled against the far sides as they are now. PreflightError names all that stands against it."""
    return inspect(hub, published)[0]


def inspect(hub: Installation, published: Published) -> tuple[Compiled, list[str]]:
    """As `preflight`, with the rights that the logins hold beyond what the mapping needs."""
    try:
        compiled = hub.mappings.compile_published(published, fresh=True)
    except MappingError as error:
        raise PreflightError((*(str(each) for each in error.problems), HIDDEN)) from error
    except ConnectorError as error:
        raise PreflightError((error.message,)) from error
    problems: list[str] = []
    excess: list[str] = []
    for connection, grant in compiled.grants.items():
        if hub.connections.get(connection).paused:
            problems.append(f"connection {connection} is paused; `hub connections resume {connection}` lifts it")
            continue
        try:
            with hub.connections.open(connection, grant, Context()) as opened:
                report = opened.check()
        except ConnectorError as error:
            problems.append(f"connection {connection}: {error.message}")
            continue
        missing, beyond = needed_rights(grant, report)
        problems += [f"connection {connection}: the right {each} is missing" for each in missing]
        excess += [f"{connection}: {each}" for each in beyond]
        if report.budget_left is not None and report.budget_left <= 0:
            problems.append(f"connection {connection}: its budget of calls is used up")
    if problems:
        raise PreflightError(tuple(problems))
    more = len(excess) - MOST_NAMED
    return compiled, [*excess[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])]


def needed_rights(grant: Grant, report: CheckReport) -> tuple[list[str], list[str]]:
    """Which rights of a login the grant needs and lacks, and which it has beyond the grant."""
    missing, excess = [], []
    for each in report.rights:
        entity, _, field = each.subject.partition(".")
        known = {*grant.reads, *grant.writes}
        if each.subject in known:  # a name with a schema has a dot of its own
            entity, field = each.subject, ""
        elif "." in field and (longer := each.subject.rpartition("."))[0] in known:
            entity, _, field = longer
        wanted = _wants(grant, each.right, entity, field) if each.subject else None
        text = f"{each.right} {each.subject}".strip()
        if not each.granted and wanted is not False:
            missing.append(text)
        elif each.granted and wanted is False:
            excess.append(text)
    return missing, excess


def _wants(grant: Grant, right: str, entity: str, field: str) -> bool:
    """Whether a grant needs a right on an entity or one of its fields; a right of another name counts as reading."""
    modes = grant.modes.get(entity, frozenset())
    verb = right.upper()
    if verb in {"UPDATE", "WRITE"}:
        written = grant.writes.get(entity, frozenset())
        return bool(modes & {Mode.UPDATE, Mode.UPSERT} or (written and not modes)) and (not field or field in written)
    if verb in {"INSERT", "CREATE"}:
        return bool(modes & {Mode.UPSERT, Mode.CREATE})
    if verb in {"DELETE", "ALTER", "DROP"}:
        return False
    fields = grant.reads.get(entity, frozenset()) | grant.writes.get(entity, frozenset())
    return bool(fields) and (not field or field in fields)


def differences(hub: Installation, run: str) -> str | None:
    """What no longer fits between a run's mapping and the far sides, in one line; None where all of it fits."""
    try:
        if (found := changes_since(hub, run)) is not None:
            return found
    except ConnectorError as error:
        log.warning("a far side cannot say what changed", run=run, why=error.message)
    with hub.database.read() as session:
        mapping = hub.ledger.run(session, run).mapping
    try:
        preflight(hub, hub.mappings.get(mapping))
    except PreflightError as error:
        return f"the mapping no longer fits: {error}"
    return None
