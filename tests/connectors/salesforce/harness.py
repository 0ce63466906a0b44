"""The twin as a far side: filled and looked at through its store and control, broken by its faults and a proxy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

from connectors.salesforce.config import SPEC, SalesforceConfig
from connectors.salesforce.twin import Twin
from connectors.salesforce.twin.org.clock import written
from connectors.salesforce.twin.org.ids import make_id
from connectors.salesforce.twin.org.schema import ObjectType
from hub.sdk import Alternate, Entity, Field, FieldType, Mode, Operator, Secret, Value
from hub.sdk.testing.harness import Fault, Harness, Record
from hub.sdk.testing.proxy import Behaviour, FaultProxy
from tests.connectors.sql.far_sides import closed_port

LEAD = "Lead"
NULLS = frozenset({Operator.IS_NULL, Operator.NOT_NULL})
TEXTS = NULLS | {Operator.EQ, Operator.IN}
IDS = TEXTS | {Operator.NE, Operator.NOT_IN}
TRUTH = NULLS | {Operator.EQ, Operator.NE}
BAD_AGE = 66666
FIRST_ID = 1_000_000
FIELDS = (
    Field("Id", FieldType.TEXT, nullable=False, length=18, operators=IDS),
    Field("SystemModstamp", FieldType.INSTANT, nullable=False),
    Field("LastName", FieldType.TEXT, nullable=False, writable=True, length=80, operators=TEXTS),
    Field("Company", FieldType.TEXT, nullable=False, writable=True, length=255, operators=TEXTS),
    Field("Ours__c", FieldType.TEXT, writable=True, length=40, operators=TEXTS),
    Field("NumberOfEmployees", FieldType.INTEGER, writable=True),
    Field("Owed__c", FieldType.DECIMAL, writable=True, precision=12, scale=4),
    Field("Smoker__c", FieldType.BOOLEAN, nullable=False, writable=True, operators=TRUTH),
    Field("Born__c", FieldType.DATE, writable=True),
    Field("Wakes__c", FieldType.TIME, writable=True, operators=NULLS),
    Field("Admitted__c", FieldType.INSTANT, writable=True),
    Field("Story__c", FieldType.TEXT, writable=True, length=32_000, operators=frozenset()),
    Field("Band__c", FieldType.TEXT, writable=True, length=255, values=("Hot", "Warm", "Cold"), operators=TEXTS),
    Field("Note__c", FieldType.TEXT, writable=True, length=60, operators=TEXTS),
)
CUSTOM = (
    "Owed__c double 12,4",
    "Smoker__c boolean",
    "Born__c date",
    "Wakes__c time",
    "Admitted__c datetime",
    "Story__c textarea 32000",
    "Band__c picklist 255 restricted =Hot|Warm|Cold",
    "Note__c string 60",
    "Ours__c string 40 unique external",
)
ONE_ANSWER = "theirs: so few records come in one answer, whole or not at all"
NO_EMPTY = "theirs: Salesforce keeps no empty text; it is null there"


class TwinHarness(Harness):
    """A twin of this test's own."""

    spec = SPEC
    stand_in = "twin"
    kind = "fake"
    faults = frozenset(Fault) - {Fault.CUT_READ}
    bad = ("NumberOfEmployees", BAD_AGE)
    withheld = "update"
    hidden = "Note__c"
    tick = timedelta(seconds=1)
    nonfinite = False
    tells_deletes = True
    retry_after = 90.0
    ending = "__c"
    patience = 3.0
    beat = 5.0
    way: ClassVar[dict[str, Any]] = {}
    """How records are read and written, where that is not left to their number."""
    cut: ClassVar[str] = "composite"
    """The call in whose answer a write is cut off."""
    environment: ClassVar[dict[str, str]] = {
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
        "REQUESTS_CA_BUNDLE": "/nonexistent",
        "SSL_CERT_FILE": "/nonexistent",
    }
    gaps: ClassVar[dict[str, str]] = {
        "test_a_read_cut_off_resumes_without_loss": ONE_ANSWER,
        "test_empty_text_is_written_as_empty_and_not_as_null": NO_EMPTY,
        "test_text_in_all_scripts_is_written": "theirs: Salesforce cuts blanks at both ends of a text",
        "test_the_first_page_arrives_before_the_last_is_made": ONE_ANSWER,
    }

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.entity = Entity(
            LEAD,
            FIELDS,
            ("Id",),
            changed_by=("SystemModstamp",),
            modes=frozenset({Mode.UPDATE}),
            alternates=(Alternate("Ours__c", frozenset(Mode)),),
        )
        first, last = date(1700, 1, 1), date(4000, 12, 31)
        ends = (datetime(1700, 1, 1, tzinfo=UTC), datetime(4000, 12, 31, tzinfo=UTC))
        self.bounds = {
            "NumberOfEmployees": (-99_999_999, 99_999_999),
            "Born__c": (first, last),
            "Admitted__c": ends,
        }
        self.theirs = folder / "twin"
        self.twin = Twin(self.theirs)
        self.twin.__enter__()
        self._proxy: FaultProxy | None = None
        for each in CUSTOM:
            self.twin.control.add_field(LEAD, each)
        self.twin.control.set_profile("System Administrator")  # which making fields takes
        rule = {"when": f"NumberOfEmployees = {BAD_AGE}", "message": "refused", "fields": ["NumberOfEmployees"]}
        self.twin.control.rule("validation", LEAD, "no_such_size", rule)
        self._told = self.twin.described()
        self.secret = self._told["consumer_secret"]

    def _kind(self) -> ObjectType:
        return self.twin.site.org.schema.objects[LEAD.lower()]

    def config(self, fault: Fault | None = None) -> SalesforceConfig:
        control = self.twin.control
        control.calm()
        for name in (LEAD, f"{LEAD}.Note__c"):
            control.restore(name)
        if fault is Fault.RIGHT:
            control.revoke(LEAD, ["edit"])
            control.hide(f"{LEAD}.Note__c")
        elif fault is Fault.BUSY:
            control.fault("503", retry_after=self.retry_after)
        elif fault is Fault.CUT_WRITE:
            control.fault("cut_after", only=self.cut, times=1)
        elif fault is Fault.EXPIRE:
            control.fault("401", only="query", skip=1, times=1)
        return SalesforceConfig(
            host=self._host(fault),
            login="client_credentials",
            client_id=self._told["consumer_key"] + ("x" if fault is Fault.LOGIN else ""),
            client_secret=Secret(self.secret),
            objects=(LEAD,),
            authority=str(self.twin.authority),
            private=True,
            late_seconds=0,
            provision=True,
            events=True,
            pubsub=self._told["pubsub"],
            **self.way,
        )

    def _host(self, fault: Fault | None) -> str:
        if fault is Fault.DOWN:
            return f"127.0.0.1:{closed_port()}"
        if fault not in {Fault.HANG, Fault.GARBLED}:
            return str(self._told["host"])
        if self._proxy is None:
            self._proxy = FaultProxy("127.0.0.1", int(self._told["host"].partition(":")[2]))
        self._proxy.behave(Behaviour(silent=True) if fault is Fault.HANG else Behaviour(garble=True))
        return f"127.0.0.1:{self._proxy.port}"

    def key(self, field: Field, number: int) -> Value:
        # Far from those that the twin gives to records that the connector makes.
        return make_id("00Q", FIRST_ID + number) if field.name == "Id" else None

    def seed(self, entity: str, records: Sequence[Record]) -> None:
        org = self.twin.site.org
        table = org.store.table(self._kind())
        with org.store.writing() as unit:
            unit.connection.execute(table.delete())
            blank = org.new_record(self._kind(), org.users["sales"], org.clock.stamp())
            rows = [
                {**blank, "Company": "Kit", **{name: self._in(each) for name, each in row.items()}} for row in records
            ]
            if rows:
                org.store.add_rows(unit, self._kind(), rows)

    @staticmethod
    def _in(value: Value) -> Any:
        if isinstance(value, datetime):
            return written(value)
        if isinstance(value, date):
            return value.isoformat()
        if isinstance(value, time):
            return f"{value:%H:%M:%S}.{value.microsecond // 1000:03d}Z"
        if isinstance(value, Decimal):
            return float(value)
        return int(value) if isinstance(value, bool) else value

    def stored(self, entity: str, key: Record) -> Record | None:
        found = self._found(key)
        if found is None or found["IsDeleted"]:
            return None
        return {each.name: self._out(each, found[each.name]) for each in self.entity.fields}

    def _found(self, key: Record) -> dict[str, Any] | None:
        if "Id" in key:
            return self.twin.control.read(str(key["Id"]))
        ((name, value),) = key.items()
        return next(iter(self.twin.control.find(LEAD, name, [value])), None)

    @staticmethod
    def _out(field: Field, value: Any) -> Value:
        if value is None:
            return None
        kinds: dict[FieldType, Any] = {
            FieldType.BOOLEAN: bool,
            FieldType.INTEGER: int,
            FieldType.DATE: date.fromisoformat,
            FieldType.TIME: lambda text: time.fromisoformat(text.removesuffix("Z")),
            FieldType.INSTANT: lambda text: datetime.fromisoformat(text.replace("+0000", "+00:00")),
            FieldType.DECIMAL: lambda number: round(Decimal(str(number)), field.scale or 0),
        }
        made: Value = kinds.get(field.type, lambda plain: plain)(value)
        return made

    def count(self, entity: str) -> int:
        return self.twin.control.count(entity)

    def edit(self, entity: str, key: Record, values: Record) -> None:
        # Stamps have whole seconds: an edit is in a later one than whatever was read before.
        self.twin.control.advance(1)
        given = {name: self._in(each) for name, each in values.items()}
        stamp = {name: given.pop(name) for name in ("SystemModstamp",) if name in given}
        self.twin.control.edit(str(key["Id"]), given)
        if stamp:
            self.twin.control.shift(str(key["Id"]), stamp)

    def remove(self, entity: str, key: Record) -> None:
        self.twin.control.advance(1)
        self.twin.control.remove(str(key["Id"]))

    def forget(self, entity: str) -> None:
        self.twin.control.forget_events()

    def close(self) -> None:
        if self._proxy is not None:
            self._proxy.close()
        self.twin.__exit__(None, None, None)


class BulkHarness(TwinHarness):
    """The same twin, everything read and written by bulk jobs."""

    stand_in = "twin in bulk"
    way: ClassVar[dict[str, Any]] = {"reads": "bulk", "writes": "bulk"}
    cut: ClassVar[str] = "bulk.ingest.upload"
    gaps: ClassVar[dict[str, str]] = {
        **TwinHarness.gaps,
        "test_empty_text_is_read_as_empty_and_not_as_null": NO_EMPTY,
    }
