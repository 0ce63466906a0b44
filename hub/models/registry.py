"""The registry: registers versions, points aliases at them, takes aliases back, and loads what is to score."""

from __future__ import annotations

import math
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hub.access.approvals import ApprovalError, ApprovalKind, Approvals
from hub.audit import Action, AuditLog, Event
from hub.database import Database
from hub.keys import KeyRing, SealedError
from hub.models import artefact, store
from hub.models.types import (
    ArtefactError,
    Label,
    ModelInUseError,
    ModelNotFoundError,
    ModelRefusedError,
    ModelVersion,
    SampleError,
    Task,
)
from hub.sdk import Json

if TYPE_CHECKING:
    from hub.models.proving.proof import Proven, Wish
    from hub.models.scorer import Scorer

CHUNK_BYTES: Final = 1 << 20
KEPT_SCORERS: Final = 32
ATTEMPTS: Final = 5
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")

Users = Callable[[Session, str, str], Iterable[str]]
"""Names the published mappings that name a model by an alias or number, asked inside the transaction that moves it."""


class Registry:
    """All models of one installation; safe to share between threads.

    With `production`, an alias that published mappings use is pointed elsewhere only after another person approved it.
    """

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        audit: AuditLog,
        *,
        users: Users | None = None,
        production: bool = False,
    ) -> None:
        self._database = database
        self._keys = keys
        self._audit = audit
        self._users = users or (lambda _session, _name, _use: ())
        self._production = production
        self._approvals = Approvals(database, keys, audit)
        self._scorers: OrderedDict[str, Scorer] = OrderedDict()
        self._lock = threading.Lock()

    def register(
        self,
        name: str,
        model: Any,
        sample: Any,
        *,
        owner: str,
        actor: str,
        target: Any = None,
        metrics: Mapping[str, float] | None = None,
        note: str = "",
        task: Task | str | None = None,
        positive: Label | None = None,
        tolerance: float = 1e-6,
        pool: str = "default",
        alias: str | None = None,
    ) -> ModelVersion:
        """Proves a model on `sample` and stores it as the next version of `name`.

        `model` is a fitted scikit-learn estimator, or the path of an .onnx or .skops file, which is parsed in a
        process of its own. `sample` is a polars or pandas frame of rows as the model was fitted on; `target` names
        the column of it (or is the sequence) that holds the truth, and gives metrics where none are stated.
        `positive` is the class whose probability a binary model gives, else its second. `tolerance` is how far a
        faster way may differ from the estimator on any row. `alias` is pointed at the new version at once.
        ModelRefusedError and SampleError say what to change.
        """
        from hub.models.proving.proof import Wish, prove

        check_name(name, "model")
        if alias is not None:
            check_name(alias, "alias")
        wish = Wish(_task(task), positive, tolerance)
        rows, truth = _split(sample, target)
        content = _read(model)
        if metrics is not None:
            _check_metrics(metrics)
        proven = prove(model if content is None else content, rows, truth, wish)
        found = dict(proven.measured if metrics is None else metrics)
        return self._store(name, proven, wish, owner, actor, found, note, pool, alias)

    def _store(
        self,
        name: str,
        proven: Proven,
        wish: Wish,
        owner: str,
        actor: str,
        metrics: Mapping[str, float],
        note: str,
        pool: str,
        alias: str | None,
    ) -> ModelVersion:
        content = artefact.pack(proven.parts)
        digest = artefact.digest_of(content)
        for attempt in range(ATTEMPTS):
            try:
                with self._database.begin() as session:
                    version = ModelVersion(
                        name=name,
                        number=store.next_number(session, name),
                        digest=digest,
                        signature=proven.signature,
                        runtime=proven.runtime,
                        way=proven.way,
                        largest_difference=proven.largest_difference,
                        rows_compared=proven.rows_compared,
                        tolerance=wish.tolerance,
                        metrics=metrics,
                        owner=owner,
                        note=note,
                        pool=pool,
                        created_at=self._database.now(session),
                        tried=proven.tried,
                        aliases=(alias,) if alias else (),
                    )
                    self._insert(session, version, content, actor)
                    waits = self._promote(session, version, alias, actor) if alias else None
                if waits is not None:
                    raise ApprovalError(f"version {version.number} of model {name} is registered; {waits}")
                return version
            except IntegrityError:
                # Another registration took the number between our look and our insert.
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def _insert(self, session: Session, version: ModelVersion, content: bytes, actor: str) -> None:
        row = store.add_version(session, version)
        for position, start in enumerate(range(0, len(content), CHUNK_BYTES)):
            piece = content[start : start + CHUNK_BYTES]
            store.add_part(session, row, position, self._keys.seal(piece, _identity(version, position)))
        detail = {
            "way": version.way.value,
            "largest_difference": repr(version.largest_difference),
            "rows_compared": version.rows_compared,
            "pool": version.pool,
        }
        self._record(session, actor, Action.MODEL_REGISTER, version, detail)

    def get(self, name: str, use: str | int = "champion") -> ModelVersion:
        """A version by alias, number or digest. ModelNotFoundError names what there is."""
        with self._database.read() as session:
            return self._find(session, name, use)

    def number(self, session: Session, name: str, use: str) -> int | None:
        """The number behind an alias, or the number itself; None for a digest, or where there is no such alias."""
        return int(use) if use.isdecimal() else store.find_alias(session, name, use)

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions of a model, oldest first; empty for a model that is not known."""
        with self._database.read() as session:
            return store.find_versions(session, name=name)

    def list(self) -> list[ModelVersion]:
        """All versions of all models, by name and number."""
        with self._database.read() as session:
            return store.find_versions(session)

    def set_alias(self, name: str, alias: str, number: int, actor: str) -> ModelVersion:
        """Points an alias at a version from now on.

        ApprovalError in production where published mappings use the alias: another person has to approve it first, and
        asking for that is what the first call does.
        """
        check_name(alias, "alias")
        with self._database.begin() as session:
            version = self._find(session, name, number)
            waits = self._promote(session, version, alias, actor)
            moved = self._find(session, name, number)
        if waits is not None:
            raise ApprovalError(waits)
        return moved

    def rollback(self, name: str, alias: str, actor: str) -> ModelVersion:
        """Points an alias back at what it pointed at before, in one step; again, and it goes one further back."""
        with self._database.begin() as session:
            current = self._find(session, name, alias)
            # Taken after the lock, so that two rollbacks at once go two steps and not the same one twice.
            store.find_alias(session, name, alias, lock=True)
            kept = [each.number for each in store.find_versions(session, name=name)]
            before = _before(store.find_changes(session, name, alias), kept)
            if before is None:
                raise ModelNotFoundError(
                    f"alias {alias} of model {name} pointed at nothing before version {current.number}"
                )
            version = self._find(session, name, before)
            self._point(session, version, alias, actor, rollback=True)
            return self._find(session, name, before)

    def remove(self, name: str, number: int, actor: str) -> None:
        """Deletes a version's bytes. ModelInUseError while an alias points at it or a published mapping uses it."""
        with self._database.begin() as session:
            version = self._find(session, name, number)
            if version.aliases:
                raise ModelInUseError(
                    f"version {number} of model {name} is {' and '.join(version.aliases)}: point that elsewhere first"
                )
            if users := sorted(self._users(session, name, str(number))):
                raise ModelInUseError(f"version {number} of model {name} is used by {', '.join(users)}")
            store.drop_version(session, name, number, self._database.now(session))
            self._record(session, actor, Action.MODEL_REMOVE, version, {})
        with self._lock:
            self._scorers.pop(version.digest, None)

    def load(self, version: ModelVersion) -> Scorer:
        """The scorer of a version, kept in this process by digest. ArtefactError where the bytes are not its own."""
        with self._lock:
            if version.digest in self._scorers:
                self._scorers.move_to_end(version.digest)
                return self._scorers[version.digest]
            # Loaded under the lock: two threads that need a model at once load it once.
            from hub.models.scorer import open_scorer

            parts = artefact.unpack(self._content(version), version.digest)
            scorer = open_scorer(parts, cuda=version.pool != "default")
            if scorer.signature != version.signature:
                raise ArtefactError(
                    f"the signature of version {version.number} of model {version.name} was altered where it is stored"
                )
            self._scorers[version.digest] = scorer
            while len(self._scorers) > KEPT_SCORERS:
                self._scorers.popitem(last=False)
            return scorer

    def _content(self, version: ModelVersion) -> bytes:
        with self._database.read() as session:
            sealed = store.find_parts(session, version.name, version.number)
        if not sealed:
            raise ModelNotFoundError(f"version {version.number} of model {version.name} was removed")
        try:
            return b"".join(self._keys.open(each, _identity(version, at)) for at, each in enumerate(sealed))
        except SealedError:
            raise ArtefactError(
                f"version {version.number} of model {version.name} was altered where it is stored: register it again"
            ) from None

    def _find(self, session: Session, name: str, use: str | int) -> ModelVersion:
        text = str(use)
        if text.isdecimal():
            found = store.find_versions(session, name=name, number=int(text))
        elif re.fullmatch(r"[0-9a-f]{64}", text):
            found = store.find_versions(session, name=name, digest=text)[-1:]
        else:
            number = store.find_alias(session, name, text)
            found = [] if number is None else store.find_versions(session, name=name, number=number)
        if found:
            return found[0]
        raise ModelNotFoundError(_not_found(store.find_versions(session), name, text))

    def _promote(self, session: Session, version: ModelVersion, alias: str, actor: str) -> str | None:
        """Points the alias, or asks for the approval of it and says so."""
        before = store.find_alias(session, version.name, alias, lock=True)
        mappings = sorted(self._users(session, version.name, alias)) if self._production else []
        if mappings and before is not None and before != version.number:
            subject = f"model:{version.name}"
            content: dict[str, Json] = {
                "model": version.name,
                "alias": alias,
                "from": before,
                "to": version.number,
                "digest": version.digest,
                "mappings": [*mappings],
            }
            if self._approvals.use(session, ApprovalKind.MODEL, subject, content, actor) is None:
                asked = self._approvals.request(
                    session, ApprovalKind.MODEL, subject, content, actor, editors=(f"human:{version.owner}",)
                )
                told = f"{' and '.join(mappings)} use the alias {alias} of model {version.name}"
                return f"{told}, so it takes two people to move it: {asked.next_step}"
        self._point(session, version, alias, actor)
        return None

    def _point(
        self, session: Session, version: ModelVersion, alias: str, actor: str, *, rollback: bool = False
    ) -> None:
        at = self._database.now(session)
        previous = store.point_alias(
            session, version.name, alias, version.number, actor=actor, at=at, rollback=rollback
        )
        detail = {"alias": alias, "previous": previous, "rollback": rollback}
        self._record(session, actor, Action.MODEL_ALIAS, version, detail)

    def _record(
        self, session: Session, actor: str, action: Action, version: ModelVersion, detail: Mapping[str, Any]
    ) -> None:
        subject = f"model:{version.name}"
        told = {"version": version.number, **detail}
        self._audit.record(session, Event(actor, action, subject, digest=version.digest, detail=told))


def _identity(version: ModelVersion, position: int) -> dict[str, str]:
    return {"kind": "model-part", "digest": version.digest, "position": str(position)}


def _before(changes: Iterable[tuple[int, bool]], kept: Iterable[int]) -> int | None:
    """What an alias goes back to: what was set is a stack, a rollback takes off its top; removed ones are passed."""
    stack: list[int] = []
    for number, rollback in changes:
        while rollback and stack and stack[-1] != number:
            stack.pop()
        if not stack or stack[-1] != number:
            stack.append(number)
    present = set(kept)
    return next((each for each in reversed(stack[:-1]) if each in present and each != stack[-1]), None)


def _not_found(known: Iterable[ModelVersion], name: str, use: str) -> str:
    listed = list(known)
    own = [each for each in listed if each.name == name]
    if not own:
        names = ", ".join(sorted({each.name for each in listed})) or "none"
        return f"there is no model {name}; registered are: {names}"
    aliases = sorted({alias for each in own for alias in each.aliases})
    numbers = ", ".join(str(each.number) for each in own)
    return f"model {name} has no version or alias {use}; versions: {numbers}; aliases: {', '.join(aliases) or 'none'}"


def _some(_session: Session, _name: str, _use: str) -> Iterable[str]:
    return ("a published mapping may",)


def check_name(name: str, what: str) -> None:
    """ModelRefusedError unless a name is what mappings can spell."""
    if not _NAME.fullmatch(name):
        raise ModelRefusedError(
            f"{name!r} is no name for a{'n' if what == 'alias' else ''} {what}: "
            "use lower-case letters, digits and underscores, a letter first, at most 63"
        )


def _task(stated: Task | str | None) -> Task | None:
    try:
        return None if stated is None else Task(stated)
    except ValueError:
        raise ModelRefusedError(f"{stated!r} is no task: use {', '.join(Task)}") from None


def _read(model: Any) -> bytes | None:
    """The content of a file given by its path; None for an estimator in memory."""
    if not isinstance(model, str | Path):
        return None
    path = Path(model)
    try:
        if path.stat().st_size > artefact.MAX_BYTES:
            raise ModelRefusedError(f"{path} is larger than the {artefact.MAX_BYTES} bytes a model may have")
        return path.read_bytes()
    except OSError as error:
        raise ModelRefusedError(f"{path} cannot be read: {error.strerror}") from None


def _split(sample: Any, target: Any) -> tuple[Any, Any]:
    """The sample without its target column, and the target's values (None: not given)."""
    if not isinstance(target, str):
        return sample, target
    if target not in getattr(sample, "columns", ()):
        raise SampleError(f"the sample has no column {target}, which is named as the target")
    rest = sample.drop(columns=[target]) if hasattr(sample, "iloc") else sample.drop(target)
    return rest, sample[target]


def _check_metrics(metrics: Mapping[str, float]) -> None:
    for name, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ModelRefusedError(f"metric {name} is {value!r}: give a finite number")


def register(name: str, model: Any, sample: Any, *, owner: str, **stated: Any) -> ModelVersion:
    """Registers from a notebook: opens settings, database and keys itself. See `Registry.register`."""
    import getpass

    from hub.keys import open_ring
    from hub.settings import load_settings

    settings = load_settings()
    database = Database(settings)
    try:
        keys, audit = open_ring(settings, database), AuditLog(database)
        # A notebook knows nothing of mappings: in production it takes every alias for one that is used.
        registry = Registry(database, keys, audit, users=_some, production=settings.production)
        actor = stated.pop("actor", f"human:{getpass.getuser()}")
        return registry.register(name, model, sample, owner=owner, actor=actor, **stated)
    finally:
        database.close()
