"""A small CRM and ERP as their connectors describe them, a model with a signature, and a document that fits both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import pytest

from hub.connections import UnknownConnectionError
from hub.mappings.check import compile_mapping
from hub.mappings.document import read_document
from hub.mappings.types import Compiled, MappingError, Taken
from hub.models import InputField, ModelNotFoundError, ModelVersion, Signature, Task
from hub.models.types import Way
from hub.sdk import Entity, Field, FieldType, Mode

TEXT, INTEGER, REAL = FieldType.TEXT, FieldType.INTEGER, FieldType.REAL

LEAD = Entity(
    "Lead",
    (
        Field("Id", TEXT, nullable=False, length=18),
        Field("Email", TEXT, length=80),
        Field("Country", TEXT, length=2),
        Field("IsConverted", FieldType.BOOLEAN),
        Field("Employees", INTEGER),
        Field("Revenue", FieldType.DECIMAL, precision=12, scale=2),
        Field("Industry", TEXT, length=40),
        Field("CreatedDate", FieldType.INSTANT),
        Field("Modified", FieldType.INSTANT),
        Field("AccountNo", TEXT, length=10),
        Field("Score", INTEGER, writable=True),
        Field("Grade", TEXT, writable=True, length=4),
        Field("Band", TEXT, writable=True, values=("Hot", "Warm", "Cold", "Review")),
        Field("Why", TEXT, writable=True, length=255),
        Field("ScoredAt", FieldType.INSTANT, writable=True),
        Field("Ratio", FieldType.DECIMAL, writable=True, precision=3, scale=2),
        Field("Locked", TEXT, length=10),
    ),
    key=("Id",),
    changed_by=("Modified",),
    modes=frozenset({Mode.UPDATE}),
)
ACCOUNT = Entity(
    "Account",
    (
        Field("Id", TEXT, nullable=False),
        Field("Domain", TEXT),
        Field("Tier", TEXT),
        Field("Seats", INTEGER),
        Field("Since", FieldType.DATE),
    ),
    key=("Id",),
)
ACTIVITY = Entity("Activity", (Field("Subject", TEXT), Field("LeadId", TEXT)), modes=frozenset({Mode.UPDATE}))
ORDER = Entity(
    "SalesOrder",
    (
        Field("OrderNo", INTEGER, nullable=False),
        Field("CustomerNo", TEXT),
        Field("Amount", FieldType.DECIMAL, precision=12, scale=2),
        Field("Ordered", FieldType.DATE),
    ),
    key=("OrderNo",),
)
SCORE = Entity(
    "ScoreTable",
    (
        Field("System", TEXT, nullable=False, length=10),
        Field("Customer", TEXT, nullable=False, length=18),
        Field("Value", INTEGER, writable=True),
        Field("Note", TEXT, writable=True, length=20),
    ),
    key=("System", "Customer"),
    modes=frozenset({Mode.UPDATE, Mode.UPSERT}),
)
SYSTEMS: Mapping[str, Sequence[Entity]] = {"crm": (LEAD, ACCOUNT, ACTIVITY), "erp": (ORDER, SCORE)}

SIGNATURE = Signature(
    Task.BINARY,
    (
        InputField("company_size", INTEGER, nullable=False, minimum=0, maximum=90_000),
        InputField("industry", TEXT, nullable=False, categories=("Banking", "Retail", "Unknown"), closed=True),
        InputField("days_open", INTEGER, nullable=True),
        InputField("spent", REAL, nullable=True),
    ),
    classes=(0, 1),
    positive=1,
)
VERSION = ModelVersion(
    name="lead_conversion",
    number=3,
    digest="ab" * 32,
    signature=SIGNATURE,
    runtime="sklearn",
    way=Way.ONNX,
    largest_difference=1e-9,
    rows_compared=1000,
    tolerance=1e-6,
    metrics={"roc_auc": 0.91},
    owner="data-science",
    note="Trained on two years of leads",
    pool="default",
    created_at=datetime(2026, 3, 1, tzinfo=UTC),
    aliases=("champion",),
)

GOOD = """\
format: 1
mapping: lead_score
title: Lead score
owner: revenue-operations
purpose: Rank open leads for the sales team

read:
  connection: crm
  entity: Lead
  where: "IsConverted = false"
  changed_by: Modified
  refresh: 1d
  timezone: Europe/Berlin

lookups:
  account:
    entity: Account
    match: { Domain: "split_part(lower(Email), '@', 2)" }
    take: one
    missing: null
  orders:
    connection: erp
    entity: SalesOrder
    match: { CustomerNo: AccountNo }
    where: "Ordered >= dateadd('month', -12, current_date())"
    aggregate: { n: "count(*)", spent: "sum(Amount)" }

features:
  company_size: "coalesce(Employees, account.Seats, 0)"
  industry: "coalesce(Industry, 'Unknown')"
  days_open: { is: "datediff('day', CreatedDate, now())", title: Days since first contact }
  spent: "coalesce(orders.spent, 0)"

expect:
  company_size: { min: 0, max: 1000000 }
  industry: { in: [Banking, Retail, Unknown], else: hold }

model:
  name: lead_conversion

decide:
  score: "round(100 * probability)"
  band: "case when probability >= 0.8 then 'Hot' when probability >= 0.5 then 'Warm' else 'Cold' end"
  fallback: { when: "confidence < 0.55", set: { band: "'Review'" }, because: low confidence }
  hold: "probability > 0.95 and company_size = 0"

write:
  mode: update
  set: { Score: score, Band: band }
  with: { Why: "reasons(3)", ScoredAt: scored_at }
  when_changed: { Score: 1 }
  expires: { after: 30d, then: clear }

run:
  schedule: "*/15 * * * *"
  limits: { changed: 20000, rejected: 1% }
"""


def entities(connection: str) -> Sequence[Entity]:
    """What each connection offers."""
    if connection not in SYSTEMS:
        raise UnknownConnectionError(f"there is no connection {connection}; did you mean crm?")
    return SYSTEMS[connection]


def model(name: str, use: str) -> ModelVersion:
    """The one registered model."""
    if (name, use) not in {("lead_conversion", "champion"), ("lead_conversion", "3")}:
        raise ModelNotFoundError(f"there is no model {name} {use}; registered are: lead_conversion")
    return VERSION


@pytest.fixture
def systems() -> Mapping[str, Sequence[Entity]]:
    """The entities of each connection."""
    return SYSTEMS


@pytest.fixture
def version() -> ModelVersion:
    """The registered model."""
    return VERSION


@pytest.fixture
def good() -> str:
    """A document without a fault."""
    return GOOD


@pytest.fixture
def compiled_of() -> Callable[..., Compiled]:
    """Compiles a text against the systems here."""

    def compiled(text: str, taken: Taken | None = None) -> Compiled:
        return compile_mapping(read_document(text), entities, model, taken)

    return compiled


@pytest.fixture
def problems_of(compiled_of: Callable[..., Compiled]) -> Callable[..., list[str]]:
    """The problems of a text, as they are printed."""

    def problems(text: str, taken: Taken | None = None) -> list[str]:
        try:
            compiled_of(text, taken)
        except MappingError as error:
            return [str(each) for each in error.problems]
        return []

    return problems
