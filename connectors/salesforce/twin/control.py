"""Faults and facts: what a test, a bench or somebody rehearsing does to the org behind the back of its clients."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from connectors.salesforce.twin.org.access import HIDDEN, READ
from connectors.salesforce.twin.org.ids import whole_id
from connectors.salesforce.twin.org.problems import RefusedError
from connectors.salesforce.twin.org.schema import ObjectType
from connectors.salesforce.twin.org.writing import Writer
from connectors.salesforce.twin.seeding import seed_records
from connectors.salesforce.twin.site import Site, describe_users

NO_RECORD = "000000000000000AAA"
"""The record that an event names which is about none."""


class Control:
    """The same as methods and, by their names, as `POST /name` with JSON arguments on the control port."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._org = site.org

    # Records, by a path that no client uses.

    def seed(self, leads: int, seed: int = 1, history: int = 0) -> dict[str, int]:
        """Generated open leads, past ones whose outcome is known, their activities, accounts and contacts."""
        return seed_records(self._org, leads, history=history, seed=seed)

    def create(self, entity: str, rows: Sequence[Mapping[str, Any]], user: str = "sales") -> list[str]:
        """New records as a user makes them, rules applied; their ids. RefusedError at the first that is refused."""
        return self._done(self._writer(entity, user).create(rows))

    def edit(self, record: str, values: Mapping[str, Any], user: str = "sales") -> None:
        """Changes a record as a user does in the browser."""
        kind, name = self._found(record)
        self._done(self._writer(kind.name, user).update([{**values, "Id": name}]))

    def remove(self, record: str, user: str = "sales") -> None:
        """Deletes a record as a user does."""
        kind, name = self._found(record)
        self._done(self._writer(kind.name, user).delete([name]))

    def shift(self, record: str, values: Mapping[str, Any]) -> None:
        """Writes stored values over, with no stamp, no rule and no event."""
        kind, name = self._found(record)
        with self._org.store.writing() as unit:
            self._org.store.change_rows(unit, kind, [{**values, "Id": name}])

    def read(self, record: str) -> dict[str, Any] | None:
        """A record as it is stored, deleted or not; None where there never was one."""
        kind, name = self._found(record)
        return self._org.store.rows(kind, [name]).get(name)

    def find(self, entity: str, field: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        """Stored records by the values of a field."""
        kind = self._org.schema.objects[entity.lower()]
        return list(self._org.store.rows(kind, list(values), by=kind.fields[field.lower()].name).values())

    def count(self, entity: str) -> int:
        """Records that are there."""
        return self._org.count(self._org.schema.objects[entity.lower()])

    # The schema and who may do what.

    def add_field(self, entity: str, field: str | Mapping[str, Any], *, open_to_all: bool = True) -> None:
        """A new field, by a line such as `Score__c double 3,0` or a describe document."""
        self._org.add_field(entity, field, open_to_all=open_to_all)

    def change_field(self, entity: str, name: str, particulars: Mapping[str, Any]) -> None:
        """Writes over what describe says of a field."""
        self._org.change_field(entity, name, **particulars)

    def drop_field(self, entity: str, name: str) -> None:
        """Takes a field away."""
        self._org.drop_field(entity, name)

    def hide(self, field: str, user: str = "integration") -> None:
        """`Lead.Score__c` is there no more for a user."""
        self._org.access.take(self._user(user), field, HIDDEN)

    def read_only(self, field: str, user: str = "integration") -> None:
        """A user may read a field and not write it."""
        self._org.access.take(self._user(user), field, READ)

    def revoke(self, entity: str, actions: Sequence[str], user: str = "integration") -> None:
        """A user loses actions (create, read, edit, delete) on an object."""
        self._org.access.take(self._user(user), entity, list(actions))

    def restore(self, name: str, user: str = "integration") -> None:
        """Gives back what was taken of `Lead` or `Lead.Score__c`."""
        self._org.access.take(self._user(user), name, None)

    def set_profile(self, profile: str, user: str = "integration") -> None:
        """Puts a user into another profile: what it may do then comes from permission sets."""
        kind = self._org.schema.objects["profile"]
        found = self._org.store.rows(kind, [profile], by="Name")
        self.shift(self._user(user), {"ProfileId": next(iter(found))})
        self._org.access.forget()

    # Rules and locks.

    def rule(self, kind: str, entity: str, name: str, rule: Mapping[str, Any] | None) -> None:
        """A rule: `validation` (when, message, fields), `duplicates` (fields, action) or `trigger` (touch, sets)."""
        self._org.rules.put(kind, entity, name, rule)

    def lock(self, records: Sequence[str], seconds: float = 3600.0) -> None:
        """Somebody else holds these records, or the masters of others, for so long."""
        until = self._org.clock.seconds() + seconds
        self._org.rules.locked.update({self._found(each)[1]: until for each in records})

    def unlock(self) -> None:
        """Nobody holds anything any more."""
        self._org.rules.locked.clear()

    def lock_rate(self, share: float) -> None:
        """The share of rows that find their record locked by chance."""
        self._org.rules.lock_rate = share

    # Faults.

    def fault(self, what: str, **particulars: Any) -> None:
        """Switches a fault on; see `Fault` for what there is."""
        self._site.faults.add(what, **particulars)

    def luck(self, seed: int) -> None:
        """Begins the luck anew that faults with a rate and locks by chance are drawn by."""
        self._site.faults.chance.seed(seed)
        self._org.rules.chance.seed(seed)

    def calm(self) -> None:
        """Switches all faults, locks and strange ways off; jobs go on."""
        self._site.faults.clear()
        self._org.rules.lock_rate = 0.0
        self.unlock()
        self._site.jobs.fail_after = None
        self.batches()
        self.bind_locators(on=False)
        self.hold_jobs(held=False)

    # Events.

    def silence(self, *, on: bool = True) -> None:
        """Event streams say nothing more."""
        self._site.faults.silent = on

    def cut_streams(self) -> None:
        """Every event stream that is open ends."""
        self._site.faults.cuts += 1

    def most_streams(self, count: int) -> None:
        """How many event streams may be open at once; more are refused."""
        self._site.faults.most_streams = count

    def capture(self, entity: str, *, on: bool = True) -> None:
        """Selects an object for change data capture, or takes it out."""
        (self._org.store.captured.add if on else self._org.store.captured.discard)(entity)

    def told(self, entity: str, after: int = 0) -> dict[str, Any]:
        """What change events told of an object since a number: which record, by whom, which fields; the last number."""
        short = {user: name for name, user in self._org.users.items()}
        found = self._org.store.changes_after(after, [entity])
        events = [
            {"record": each.record, "kind": each.kind, "by": short.get(each.user), "fields": sorted(each.values)}
            for each in found
        ]
        return {"events": events, "last": self._org.store.told_bounds()[1]}

    def forget_events(self) -> None:
        """Lets go of every event that was told, as their retention does after 72 hours."""
        self._org.store.forget_changes(self._org.store.told_bounds()[1])

    def gap(self, entity: str, kind: str = "GAP_UPDATE", records: Sequence[str] = (NO_RECORD,)) -> None:
        """Tells that changes were made whose fields are not told; GAP_OVERFLOW names no record either."""
        moment, together = self._org.clock.seconds(), str(uuid.uuid4())
        told = {"entity": entity, "kind": kind, "user": self._org.users["automation"], "moment": moment, "values": {}}
        rows = [{**told, "record": each, "transaction": together, "origin": ""} for each in records]
        with self._org.store.writing() as unit:
            self._org.store.note_changes(unit, rows)

    # Sessions and jobs.

    def kill_tokens(self) -> int:
        """Every session ends now."""
        return self._site.sessions.revoke_all()

    def token_seconds(self, seconds: float) -> None:
        """How long a session lasts unused."""
        self._site.sessions.seconds = seconds

    def cursor_seconds(self, seconds: float) -> None:
        """How long a query locator lasts unused."""
        self._site.cursor_seconds = seconds

    def hold_jobs(self, *, held: bool = True) -> None:
        """Bulk jobs stay in the state they are in."""
        (self._site.jobs.going_on.clear if held else self._site.jobs.going_on.set)()

    def fail_job(self, after: int) -> None:
        """The next ingest job fails when so many of its records have been processed."""
        self._site.jobs.fail_after = after

    def batches(self, rows: int = 10_000, *, side_by_side: bool = False) -> None:
        """How bulk jobs are cut; `side_by_side` batches take each other's masters, as unsorted children make them."""
        self._site.jobs.batch_rows, self._site.jobs.side_by_side = rows, side_by_side

    def bind_locators(self, *, on: bool = True) -> None:
        """Query locators end with the session that opened them, as some clients report it."""
        self._site.locators_end_with_session = on

    def advance(self, seconds: float) -> None:
        """Moves the twin's clock on."""
        self._org.clock.ahead += seconds

    # The journal.

    def budget(self, most: int | None = None, used: int | None = None) -> None:
        """The day's allowance of calls, and how many of them are gone."""
        self._site.journal.set_budget(most=most, used=used)

    def calls(self, after: int = 0, kind: str | None = None) -> list[dict[str, Any]]:
        """The calls with a higher number, oldest first."""
        return self._site.journal.calls(after=after, kind=kind)

    def summary(self, after: int = 0) -> dict[str, Any]:
        """How many calls of each kind there were, how many counted, and how many came inside a wait."""
        return self._site.journal.summary(after=after)

    def forget_calls(self) -> None:
        """Begins a new journal."""
        self._site.journal.clear()

    # Credentials.

    def credentials(self) -> dict[str, Any]:
        """What a client logs in with."""
        app = self._site.sessions.app
        return {
            "consumer_key": app["consumer_key"],
            "consumer_secret": app["consumer_secret"],
            "users": describe_users(self._site),
        }

    def certificate(self, public_key: str) -> None:
        """The public key, as PEM, by which assertions of the connected app are verified."""
        self._site.sessions.set_certificate(public_key)

    def _user(self, short: str) -> str:
        return short if short == "*" else self._org.users[short]

    def _writer(self, entity: str, user: str) -> Writer:
        return Writer(
            self._org, self._org.schema.objects[entity.lower()], self._org.users[user], origin="com/salesforce/ui"
        )

    def _found(self, record: str) -> tuple[ObjectType, str]:
        name = whole_id(record)
        kind = self._org.schema.by_prefix(record[:3])
        if name is None or kind is None:
            raise ValueError(f"{record} is no id of this org")
        return kind, name

    @staticmethod
    def _done(outcomes: Sequence[Any]) -> list[str]:
        for each in outcomes:
            if not each.done:
                raise RefusedError(each.problems[0].code, each.problems[0].message)
        return [str(each.id) for each in outcomes]


def control_app(control: Control) -> Starlette:
    """The control port: `POST /name` with a JSON object of arguments answers what the method gives."""

    async def carry_out(request: Request) -> JSONResponse:
        name = request.path_params["name"]
        method = getattr(control, name, None)
        # A page in a browser can neither set this type across origins nor name this host.
        plain = request.headers.get("content-type", "").startswith("application/json")
        if (
            name.startswith("_")
            or method is None
            or not plain
            or request.url.hostname not in {"127.0.0.1", "localhost"}
        ):
            return JSONResponse({"error": f"there is no {name} here, or it was not asked for as JSON"}, 404)
        try:
            given = json.loads(await request.body() or b"{}")
            found = await asyncio.to_thread(method, **given)
        except RefusedError as error:
            return JSONResponse({"error": error.code, "message": error.message}, 409)
        except (TypeError, ValueError, KeyError) as error:
            return JSONResponse({"error": f"{type(error).__name__}: {error}"}, 400)
        return JSONResponse({"result": found})

    return Starlette(routes=[Route("/{name}", carry_out, methods=["POST"])])
