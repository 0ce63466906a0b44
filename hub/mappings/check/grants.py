"""What a compiled mapping may touch, and which source fields each target field can depend on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hub.mappings.check.results import Results
from hub.mappings.expressions import Expression
from hub.mappings.types import CompiledLookup, Document
from hub.sdk import Entity, Grant, Mode


def draw_grants(
    document: Document,
    source: Entity,
    target: Entity,
    fields: Iterable[str],
    lookups: Sequence[CompiledLookup],
) -> dict[str, Grant]:
    """The exact right needed, per connection: what is read, what is written, and how."""
    read, write = document.read, document.write
    stamp = {read.changed_by} if read.changed_by is not None else set()
    grants = {read.connection: Grant(reads={source.name: frozenset({*source.key, *fields, *stamp})})}
    for each in lookups:
        wanted = frozenset({*each.entity.key, *each.fields, *each.lookup.match})
        _add(grants, each.lookup.connection, Grant(reads={each.entity.name: wanted}))
    written = frozenset({*write.set, *write.with_})
    keyed = frozenset(target.key) if write.mode is not Mode.UPDATE else frozenset()
    # Whatever was made by a score can be updated by the hub: undo puts back, and a record that leaves is cleared.
    modes = frozenset({write.mode, Mode.UPDATE})
    target_grant = Grant(
        # The values replaced are read before the write, for undo and for knowing what is unchanged.
        reads={target.name: written | frozenset(target.key)},
        writes={target.name: written | keyed},
        modes={target.name: modes},
    )
    _add(grants, write.connection, target_grant)
    return grants


def _add(grants: dict[str, Grant], connection: str, grant: Grant) -> None:
    grants[connection] = grants[connection] | grant if connection in grants else grant


class Lineage:
    """Follows names back to `connection/entity.field`."""

    def __init__(
        self,
        document: Document,
        source: Entity,
        lookups: Sequence[CompiledLookup],
        features: Mapping[str, Expression],
        outputs: Iterable[str],
    ) -> None:
        self._document = document
        place = f"{document.read.connection}/{source.name}"
        self._source = {each.name: frozenset({f"{place}.{each.name}"}) for each in source.fields}
        for each in lookups:
            self._add_lookup(each)
        self.features = {name: self._of(each.columns, self._source) for name, each in features.items()}
        self._everything = frozenset[str]().union(*self.features.values())
        self._known = {**self.features, **dict.fromkeys(outputs, self._everything)}

    def _add_lookup(self, compiled: CompiledLookup) -> None:
        place = f"{compiled.lookup.connection}/{compiled.entity.name}"
        chosen = {f"{place}.{name}" for name in compiled.lookup.match}
        chosen |= {f"{place}.{name}" for name in (compiled.where.columns if compiled.where is not None else ())}
        chosen |= {f"{place}.{each.column}" for each in compiled.order or ()}
        for each in compiled.match.values():
            chosen |= self._of(each.columns, self._source)
        prefix = f"{compiled.lookup.name}."
        for name in compiled.columns:
            folded = (compiled.aggregate or {}).get(name.removeprefix(prefix))
            own = folded.columns if folded is not None else frozenset({name.removeprefix(prefix)})
            self._source[name] = frozenset(chosen | {f"{place}.{field}" for field in own})

    def targets(self, results: Results) -> dict[str, frozenset[str]]:
        """Per target field, the source fields its value can depend on; which record is chosen is not part of it."""
        known = dict(self._known)
        when = self._of(results.fallback_when.columns, known) if results.fallback_when is not None else frozenset[str]()
        for name, each in results.decide.items():
            sources = self._of(each.columns, known)
            if name in results.fallback:
                sources |= when | self._of(results.fallback[name].columns, known)
            known[name] = sources
        known["because"] = when
        return {
            name: self._of(each.columns, known) | (self._everything if each.reasons else frozenset())
            for name, each in {**results.set, **results.with_}.items()
        }

    @staticmethod
    def _of(columns: Iterable[str], known: Mapping[str, frozenset[str]]) -> frozenset[str]:
        return frozenset[str]().union(*(known.get(name, frozenset()) for name in columns))
