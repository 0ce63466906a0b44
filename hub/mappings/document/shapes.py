"""The one definition of the mapping document: its parser checks against it and its JSON Schema is made from it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema

from hub.mappings.document.scalars import (
    Alias,
    Count,
    Duration,
    ExpressionText,
    FieldName,
    Line,
    Name,
    Schedule,
    Share,
    Single,
    Zone,
)


class Shape(BaseModel):
    """A map of the document: unknown keys are refused, nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class ReadShape(Shape):
    connection: Name = Field(description="the connection that records are read from")
    entity: Line = Field(description="the entity whose records are scored")
    where: ExpressionText | None = Field(None, description="which records are due: a condition over their fields")
    changed_by: FieldName | None = Field(None, description="the field that moves when a record changes")
    refresh: Duration | None = Field(None, description="how often everything is read again")
    timezone: Zone = Field("UTC", description="the time zone of days, months and wall clocks")
    leaves: Literal["keep", "clear"] = Field("keep", description="what becomes of the score of a record that leaves")


class LookupShape(Shape):
    connection: Name | None = Field(None, description="the connection asked; that of read where absent")
    entity: Line = Field(description="the entity looked up")
    match: dict[FieldName, ExpressionText] = Field(
        min_length=1, description="their field: our expression; all must be equal"
    )
    where: ExpressionText | None = Field(None, description="a condition over their fields")
    take: Literal["one", "first"] | None = Field(None, description="one refuses a second match; first needs order")
    order: ExpressionText | None = Field(None, description="their fields, as in SQL's ORDER BY, for take: first")
    aggregate: dict[Name, ExpressionText] | None = Field(
        None, min_length=1, description="column: an aggregate such as sum(Amount)"
    )
    missing: Annotated[
        Literal["null", "hold", "invalid"],
        BeforeValidator(lambda value: "null" if value is None else value),
        WithJsonSchema({"enum": ["null", "hold", "invalid", None]}),
    ] = Field("null", description="what becomes of a record without a match")


class FeatureShape(Shape):
    is_: ExpressionText = Field(alias="is", description="the expression over fields and lookups")
    title: Line = Field(description="how the feature is called in reasons and reports")


def _feature_kind(value: Any) -> str:
    return "map" if isinstance(value, dict | FeatureShape) else "text"


FeatureChoice = Annotated[
    Annotated[FeatureShape, Tag("map")] | Annotated[ExpressionText, Tag("text")], Discriminator(_feature_kind)
]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class ExpectShape(Shape):
    min: Number | None = Field(None, description="the smallest value allowed")
    max: Number | None = Field(None, description="the largest value allowed")
    in_: list[Single] | None = Field(None, alias="in", min_length=1, description="the only values allowed")
    required: bool = Field(False, description="whether null is refused")
    else_: Literal["hold", "invalid"] = Field("invalid", alias="else", description="what becomes of the record")


class ChoiceShape(Shape):
    when: ExpressionText = Field(description="a condition over the features")
    model: Line = Field(description="the model used where it holds")


class CanaryShape(Shape):
    alias: Alias = Field(description="the alias tried")
    share: Share = Field(description="the share of records it scores")


class ModelShape(Shape):
    name: Line = Field(description="the registered model")
    use: Alias = Field("champion", description="an alias or a version number")
    choose: list[ChoiceShape] | None = Field(None, description="not yet available")
    canary: CanaryShape | None = Field(None, description="not yet available")
    shadow: list[Alias] | None = Field(None, description="not yet available")


class FallbackShape(Shape):
    when: ExpressionText = Field(description="a condition over features and the model's outputs")
    set: dict[Name, ExpressionText] = Field(min_length=1, description="decided name: expression used instead")
    because: Line = Field(description="why, in words; kept with the decision")


class DecideShape(Shape):
    """Every key but `fallback` and `hold` is a decided name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, ExpressionText]
    fallback: FallbackShape | None = Field(None, description="what is decided instead, and when")
    hold: ExpressionText | None = Field(None, description="when a record goes to a person, not back")


class ExpiresShape(Shape):
    after: Duration = Field(description="how long a score holds")
    then: Literal["clear", "keep"] = Field("keep", description="cleared, or kept and shown as stale")


class WriteShape(Shape):
    mode: Literal["update", "upsert", "create"] = Field(description="how a change lands")
    connection: Name | None = Field(None, description="the connection written; that of read where absent")
    entity: Line | None = Field(None, description="the entity written; that of read where absent")
    key: dict[FieldName, ExpressionText] | None = Field(
        None,
        min_length=1,
        description="key field of the target, or another unique one: expression over the fields read",
    )
    set: dict[FieldName, ExpressionText] = Field(
        min_length=1, description="target field: expression; written whole or not at all"
    )
    with_: dict[FieldName, ExpressionText] = Field(
        default_factory=dict, alias="with", description="written along, never the cause of a write"
    )
    when_changed: dict[FieldName, Number] = Field(
        default_factory=dict, description="target field: the smallest difference worth a write"
    )
    expires: ExpiresShape | None = Field(None, description="how long a written score holds, and what then")


class LimitsShape(Shape):
    changed: Count | None = Field(None, description="a run holds before the page that would write more records")
    rejected: Share | None = Field(None, description="a run stops above this share of the last 1,000 written")


class RunShape(Shape):
    schedule: Schedule | None = Field(None, description="when runs start, as cron in read.timezone")
    follow: bool = Field(False, description="carry each change as the read connection tells of it, beside schedule")
    limits: LimitsShape | None = Field(None, description="what holds or stops a run")
    ahead: bool = Field(False, description="score everything before anything is written")
    deadline: Duration | None = Field(None, description="real time: after it the fallback answers")


class DocumentShape(Shape):
    format: Literal[1] = Field(description="the version of this format: 1")
    mapping: Name = Field(description="the name of the mapping")
    title: Line = Field(description="its title, for people")
    owner: Line = Field(description="who answers for it")
    purpose: Line = Field(description="what the score is for")
    read: ReadShape = Field(description="which records are scored")
    lookups: dict[Name, LookupShape] = Field(default_factory=dict, description="records of other entities beside them")
    features: dict[FieldName, FeatureChoice] = Field(
        min_length=1, description="feature: an expression over the fields read, or { is, title }"
    )
    expect: dict[FieldName, ExpectShape] = Field(
        default_factory=dict, description="what a feature must satisfy before the model sees it"
    )
    model: ModelShape = Field(description="which model scores")
    decide: DecideShape = Field(description="name: an expression over the model's outputs and the features")
    write: WriteShape = Field(description="where results land")
    run: RunShape = Field(default_factory=RunShape, description="when runs start and what stops them")
