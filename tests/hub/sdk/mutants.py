"""Copies of the correct connector with one fault each, and the test that is named for it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from threading import Event
from typing import Any, ClassVar

import polars as pl

from hub.sdk import (
    Changes,
    CheckReport,
    Context,
    Cursor,
    Entity,
    Field,
    Grant,
    Journal,
    Mode,
    Page,
    RejectedError,
    Results,
    RightsReport,
    Selection,
    UnavailableError,
    Value,
)
from hub.sdk.testing.stand_in.connector import Result, StandIn, StandInConfig
from hub.sdk.testing.stand_in.far_side import FAR_SIDES, ChangeEvent, LinkLostError, LoginRefusedError, Row, Session


class Mutant(StandIn):
    """A fault; `caught_by` is the test that must find it."""

    caught_by: ClassVar[str]


def _values(row: Row, **values: Value) -> Row:
    return Row({**row.values, **values}, row.version, row.touched, row.deleted)


# Live


class TellsOurOwnWrites(Mutant):
    caught_by = "test_our_own_writes_do_not_come_back"

    def _worth_telling(self, event: ChangeEvent) -> bool:
        return True


class FallsSilent(Mutant):
    caught_by = "test_a_quiet_stream_yields_an_empty_page_in_time"

    def follow(self, selection: Selection, *, after: Cursor | None) -> Iterator[Page]:
        return (page for page in super().follow(selection, after=after) if page.gap or page.frame.height)


class BeginsWithoutAWord(Mutant):
    caught_by = "test_a_new_stream_begins_with_a_gap"

    def _begin(self, after: Cursor | None) -> tuple[int, bool]:
        at, gap = super()._begin(after)
        return at, gap and after is not None


class GoesOnFromTheEnd(Mutant):
    caught_by = "test_a_stream_resumes_from_each_cursor_without_loss"

    def _begin(self, after: Cursor | None) -> tuple[int, bool]:
        return super()._begin(None)[0], after is None


class KeepsAnExpiredCursorToItself(Mutant):
    caught_by = "test_a_cursor_that_is_too_old_tells_a_gap"

    def _begin(self, after: Cursor | None) -> tuple[int, bool]:
        return super()._begin(after)[0], after is None


class MovesTheCursorTooFar(Mutant):
    caught_by = "test_an_edit_made_while_nobody_followed_is_told_after_it"

    def _news(self, selection: Selection, told: Sequence[ChangeEvent], at: int, *, gap: bool = False) -> Page:
        page = super()._news(selection, told, at, gap=gap)
        return replace(page, cursor=Cursor({"event": at + bool(told)}))


class TellsAHeapAtOnce(Mutant):
    caught_by = "test_pages_of_a_stream_respect_page_rows"

    def follow(self, selection: Selection, *, after: Cursor | None) -> Iterator[Page]:
        return super().follow(replace(selection, page_rows=1_000), after=after)


class TellsWhatWasThere(Mutant):
    caught_by = "test_an_edit_comes_with_the_record_as_it_stands"

    def _value(self, row: Row, name: str) -> Value:
        return None if name == "name" else super()._value(row, name)


class KeepsDeletesOfTheStream(Mutant):
    caught_by = "test_a_deleted_record_is_told_as_deleted"

    def _news(self, selection: Selection, told: Sequence[ChangeEvent], at: int, *, gap: bool = False) -> Page:
        page = super()._news(selection, told, at, gap=gap)
        return replace(page, frame=page.frame.filter(~pl.col("_deleted")))


# Check and entities


class NamesNobody(Mutant):
    caught_by = "test_check_names_identity_and_product"

    def check(self, names: Collection[str] | None = None) -> CheckReport:
        return CheckReport("", "Stand-in 1.0", super().check(names).rights)


class HoldsBackARight(Mutant):
    caught_by = "test_check_reports_every_mandatory_right_and_no_unknown_one"

    def check(self, names: Collection[str] | None = None) -> CheckReport:
        told = super().check(names)
        return CheckReport(told.identity, told.product, told.rights[1:])


class ClaimsEveryRight(Mutant):
    caught_by = "test_a_missing_right_is_reported_by_name"

    def check(self, names: Collection[str] | None = None) -> CheckReport:
        told = super().check(names)
        return CheckReport(told.identity, told.product, tuple(each for each in told.rights if each.granted))


class LetsTheDriverErrorThrough(Mutant):
    caught_by = "test_a_bad_login_is_an_unauthorized_error"

    def check(self, names: Collection[str] | None = None) -> CheckReport:
        name, _, fault = self.config.address.partition("#")
        FAR_SIDES[name].connect(fault, self.config.token.reveal()).close()
        return super().check(names)


class CallsABadLoginBusy(Mutant):
    caught_by = "test_a_bad_login_is_an_unauthorized_error"

    def _open(self) -> Session:
        try:
            return super()._open()
        except LoginRefusedError:
            raise LinkLostError from None


class PlansTooMuch(Mutant):
    caught_by = "test_the_plan_names_what_to_grant"

    def plan(self, grant: Grant, *, login: str | None = None) -> str:
        return "GRANT ALL ON Patient"


class FindsNothingMissing(Mutant):
    caught_by = "test_verify_names_a_missing_right"

    def verify(self, grant: Grant) -> RightsReport:
        return replace(super().verify(grant), missing=())


class FindsTheNeededMissing(Mutant):
    caught_by = "test_verify_finds_its_own_login_sufficient"

    def verify(self, grant: Grant) -> RightsReport:
        return replace(super().verify(grant), missing=("records.read",))


class FindsNoExcess(Mutant):
    caught_by = "test_verify_names_what_is_held_beyond_the_grant"

    def verify(self, grant: Grant) -> RightsReport:
        return replace(super().verify(grant), excess=())


class ShowsWhatIsHidden(Mutant):
    caught_by = "test_a_hidden_field_is_absent"

    def entities(self, names: Collection[str] | None = None) -> Sequence[Entity]:
        super().entities(names)
        return [FAR_SIDES[self.config.address.partition("#")[0]].entity]


class TellsAnotherLength(Mutant):
    caught_by = "test_fields_are_told_with_their_types"

    def entities(self, names: Collection[str] | None = None) -> Sequence[Entity]:
        (told,) = super().entities(names)
        wider = [Field("note", each.type, length=255) if each.name == "note" else each for each in told.fields]
        return [Entity(told.name, tuple(wider), told.key, "", told.changed_by, told.modes, told.conditional)]


class TellsMoreThanWasNamed(Mutant):
    caught_by = "test_named_entities_come_alone"

    def entities(self, names: Collection[str] | None = None) -> Sequence[Entity]:
        return super().entities()


class ForgetsWhatItMade(Mutant):
    caught_by = "test_provisioned_fields_can_be_written"

    def provision(self, entity: str, fields: Sequence[Field]) -> None:
        super().provision(entity, fields[:-1])


# Read


class DropsTheLastPage(Mutant):
    caught_by = "test_every_seeded_record_is_read_once_with_equal_values"

    def read(self, selection: Selection, *, after: Cursor | None = None) -> Iterator[Page]:
        held: Page | None = None
        for page in super().read(selection, after=after):
            if held is not None:
                yield held
            held = page


class MakesPagesTooLarge(Mutant):
    caught_by = "test_pages_respect_page_rows"

    def read(self, selection: Selection, *, after: Cursor | None = None) -> Iterator[Page]:
        names = (selection.entity, selection.fields, selection.where, selection.changed_by, selection.part)
        return super().read(Selection(*names, selection.page_rows + 1), after=after)


class LosesATie(Mutant):
    caught_by = "test_equal_stamps_are_neither_lost_nor_looped"

    def _beyond(self, place: tuple[Any, ...], at: tuple[Any, ...]) -> bool:
        return place[:2] > at[:2]


class LoopsOnATie(Mutant):
    caught_by = "test_equal_stamps_are_neither_lost_nor_looped"

    def _beyond(self, place: tuple[Any, ...], at: tuple[Any, ...]) -> bool:
        return place[:2] >= at[:2]


class LosesWhatHasNoStamp(Mutant):
    caught_by = "test_a_record_without_a_stamp_is_not_lost"

    def _wanted(self, selection: Selection, row: Row) -> bool:
        unstamped = selection.changed_by is not None and row.values[selection.changed_by] is None
        return not unstamped and super()._wanted(selection, row)


class CutsTheStampToSeconds(Mutant):
    caught_by = "test_stamps_one_tick_apart_are_told_apart"

    def _to_json(self, place: tuple[Any, ...]) -> list[Any]:
        return super()._to_json(
            tuple(each.replace(microsecond=0) if isinstance(each, datetime) else each for each in place)
        )


class OrdersByKeyOnly(Mutant):
    caught_by = "test_an_incremental_read_comes_in_order_of_its_stamp"

    def _place(self, selection: Selection, row: Row) -> tuple[Any, ...]:
        return self._key(row)


class StartsAfterTheTick(Mutant):
    caught_by = "test_what_moves_in_the_tick_of_the_head_is_not_lost"

    def head(self, selection: Selection) -> Cursor | None:
        found = self._after(selection, None)
        return Cursor({"at": self._to_json(self._place(selection, found[-1]))}) if found else None


class StartsWhereverTheReadIs(Mutant):
    caught_by = "test_what_moves_after_the_head_is_read_from_it"

    def head(self, selection: Selection) -> Cursor | None:
        return Cursor({"at": []}) if self._after(selection, None) else None


class NeverTellsOfDeletes(Mutant):
    caught_by = "test_a_deleted_record_comes_as_deleted"

    def _after(self, selection: Selection, at: Any, *, tell_deleted: bool = False) -> list[Row]:
        return super()._after(selection, at)


class CursorRestarts(Mutant):
    caught_by = "test_a_read_resumes_from_each_cursor"

    def _from_cursor(self, after: Cursor | None) -> tuple[Any, ...] | None:
        return None


class RepeatsAfterTheCursor(Mutant):
    caught_by = "test_a_read_resumes_from_each_cursor"
    _resumed: bool = False

    def _from_cursor(self, after: Cursor | None) -> tuple[Any, ...] | None:
        self._resumed = after is not None
        return super()._from_cursor(after)

    def _beyond(self, place: tuple[Any, ...], at: tuple[Any, ...]) -> bool:
        if self._resumed and place == at:
            self._resumed = False
            return True
        return place > at


class BuffersAllPages(Mutant):
    caught_by = "test_the_first_page_arrives_before_the_last_is_made"

    def read(self, selection: Selection, *, after: Cursor | None = None) -> Iterator[Page]:
        yield from list(super().read(selection, after=after))


class TypesDecimalsAsFloats(Mutant):
    caught_by = "test_pages_are_typed_as_the_entity_declares"

    def _schema(self, entity: Entity, selection: Selection) -> dict[str, pl.DataType]:
        schema = super()._schema(entity, selection)
        return {name: pl.Float64() if isinstance(kind, pl.Decimal) else kind for name, kind in schema.items()}


class InfersTheTypeOfNulls(Mutant):
    caught_by = "test_a_page_of_nulls_is_typed_all_the_same"

    def _page(self, selection: Selection, found: Sequence[Row], at: tuple[Any, ...]) -> Page:
        page = super()._page(selection, found, at)
        empty = [name for name in selection.fields if page.frame[name].null_count() == page.frame.height]
        return Page(page.frame.with_columns(pl.lit(None).alias(name) for name in empty), page.cursor)


class _Misreads(Mutant):
    """Reads one kind of value as another."""

    def _misread(self, value: Any) -> Any:
        raise NotImplementedError

    def _value(self, row: Row, name: str) -> Value:
        value: Value = self._misread(super()._value(row, name))
        return value


class TrimsText(_Misreads):
    caught_by = "test_text_in_all_scripts_is_read"

    def _misread(self, value: Any) -> Any:
        return value.strip() if isinstance(value, str) else value


class LowerCasesText(_Misreads):
    caught_by = "test_text_in_all_scripts_is_read"

    def _misread(self, value: Any) -> Any:
        return value.lower() if isinstance(value, str) and not value.startswith("{") else value


class TruncatesLongText(_Misreads):
    caught_by = "test_the_longest_text_is_read"

    def _misread(self, value: Any) -> Any:
        return value[:4096] if isinstance(value, str) else value


class ReadsEmptyTextAsNull(_Misreads):
    caught_by = "test_empty_text_is_read_as_empty_and_not_as_null"

    def _misread(self, value: Any) -> Any:
        return None if value == "" else value


class RoundsDecimals(_Misreads):
    caught_by = "test_decimals_at_both_ends_are_read"

    def _misread(self, value: Any) -> Any:
        return Decimal(repr(float(value))) if isinstance(value, Decimal) else value


class LosesNan(_Misreads):
    caught_by = "test_nan_and_infinity_are_read"

    def _misread(self, value: Any) -> Any:
        return None if isinstance(value, float) and value != value else value


class DropsTheMicroseconds(_Misreads):
    caught_by = "test_wall_clock_timestamps_are_read"

    def _misread(self, value: Any) -> Any:
        return value.replace(microsecond=0) if isinstance(value, datetime) else value


class OverlapsSlices(Mutant):
    caught_by = "test_slices_are_disjoint_and_complete"

    def _in_part(self, row: Row, part: Mapping[str, Any] | None) -> bool:
        low, high = self._part(part)
        return (low is None or self._key(row) >= low) and (high is None or self._key(row) <= high)


class LosesASlice(Mutant):
    caught_by = "test_slices_are_disjoint_and_complete"

    def split(self, selection: Selection, parts: int) -> Sequence[Selection]:
        slices = super().split(selection, parts)
        return slices[:-1] or slices


class ClosesTheLastSlice(Mutant):
    caught_by = "test_slices_cover_records_made_later"

    def split(self, selection: Selection, parts: int) -> Sequence[Selection]:
        *rest, last = super().split(selection, parts)
        end = self._to_json((*max(self._key(row) for row in self._after(selection, None)), 0))
        assert last.part is not None
        return [*rest, self._slice(selection, last.part["from"], end)]


class LosesTheFilterOnSlices(Mutant):
    caught_by = "test_slices_keep_the_filter"

    def _slice(self, selection: Selection, low: Any, high: Any) -> Selection:
        return super()._slice(Selection(selection.entity, selection.fields), low, high)


class FiltersTooMuch(Mutant):
    caught_by = "test_a_pushed_filter_loses_no_wanted_record"

    def _wanted(self, selection: Selection, row: Row) -> bool:
        return super()._wanted(selection, row) and (selection.where is None or row.values["name"] is not None)


class MatchesWhateverTheCase(Mutant):
    caught_by = "test_lookup_takes_text_exactly"

    def _matched(self, row: Row, names: Sequence[str], wanted: set[tuple[Any, ...]]) -> bool:
        folded = {tuple(each.casefold() if isinstance(each, str) else each for each in key) for key in wanted}
        mine = (row.values[name] for name in names)
        return tuple(each.casefold() if isinstance(each, str) else each for each in mine) in folded


class LooksUpTheFirstFewOnly(Mutant):
    caught_by = "test_lookup_by_key_finds_exactly_those"

    def lookup(self, selection: Selection, match: pl.DataFrame) -> Iterator[Page]:
        return super().lookup(selection, match.head(self.spec.limits.lookup_keys))


class AnswersAnEmptyLookupWithEverything(Mutant):
    caught_by = "test_lookup_of_nothing_is_empty"

    def lookup(self, selection: Selection, match: pl.DataFrame) -> Iterator[Page]:
        return super().lookup(selection, match) if match.height else self.read(selection)


# Write


class AnswersOutOfOrder(Mutant):
    caught_by = "test_results_come_in_the_order_of_the_changes"

    def _results(self, told: Sequence[Result]) -> Results:
        return super()._results(sorted(told, key=lambda each: str(each["state"])))


class SaysAppliedAndWritesNothing(Mutant):
    caught_by = "test_what_was_written_is_there_by_the_second_path"

    def _apply(self, session: Session, changes: Changes, change: Mapping[str, Any]) -> Result:
        return {"state": "applied"}


class TrimsWrittenText(Mutant):
    caught_by = "test_text_in_all_scripts_is_written"

    def _values(self, changes: Changes, change: Mapping[str, Any]) -> dict[str, Value]:
        values = super()._values(changes, change)
        return {name: each.strip() if isinstance(each, str) else each for name, each in values.items()}


class SwallowsARejectedRow(Mutant):
    caught_by = "test_a_bad_row_among_good_ones_is_rejected_alone"

    def _rejected(self, name: str) -> Result:
        return {"state": "applied"}


class RaisesForOneBadRow(Mutant):
    caught_by = "test_a_bad_row_among_good_ones_is_rejected_alone"

    def _rejected(self, name: str) -> Result:
        raise RejectedError("The far side refuses the batch.", field=name)


class KeepsTheFieldToItself(Mutant):
    caught_by = "test_a_rejected_row_names_its_field"

    def _rejected(self, name: str) -> Result:
        return {"state": "rejected", "reason": "refused"}


class WritesNullWhereAbsent(Mutant):
    caught_by = "test_null_leaves_a_field_alone"

    def _values(self, changes: Changes, change: Mapping[str, Any]) -> dict[str, Value]:
        return {name: change[name] for name in changes.fields}


class NeverClears(Mutant):
    caught_by = "test_clear_sets_null_and_only_there"

    def _values(self, changes: Changes, change: Mapping[str, Any]) -> dict[str, Value]:
        return {name: change[name] for name in changes.fields if change[name] is not None}


class IgnoresTheVersion(Mutant):
    caught_by = "test_a_stale_version_is_a_conflict_and_nothing_is_written"

    def _version_moved(self, row: Row, change: Mapping[str, Any]) -> bool:
        return False


class IgnoresBefore(Mutant):
    caught_by = "test_a_stale_before_is_a_conflict_and_nothing_is_written"

    def _before_moved(self, row: Row, change: Mapping[str, Any]) -> bool:
        return False


class ComparesNullAsSqlDoes(Mutant):
    caught_by = "test_what_was_null_is_a_condition_too"

    def _before_moved(self, row: Row, change: Mapping[str, Any]) -> bool:
        before = change["_before"]
        return before is not None and any(each is None or each != row.values[name] for name, each in before.items())


class ComparesDecimalsAsFloats(Mutant):
    caught_by = "test_what_was_read_is_a_condition_that_holds"

    def _before_moved(self, row: Row, change: Mapping[str, Any]) -> bool:
        before = change["_before"]
        return before is not None and any(
            isinstance(each, Decimal) and each != Decimal(float(row.values[name] or 0))  # type: ignore[arg-type]
            for name, each in before.items()
        )


class CallsAHeldValueAConflict(Mutant):
    caught_by = "test_a_record_that_already_holds_the_value_is_applied"

    def _held(self, entity: Entity, row: Row, values: Mapping[str, Value]) -> bool:
        return False


class WritesTwiceOnRepeat(Mutant):
    caught_by = "test_a_repeat_with_the_journal_sends_nothing_twice"

    def write(self, changes: Changes, *, journal: Journal) -> Results:
        return super().write(changes, journal=_Forgetful())

    def _held(self, entity: Entity, row: Row, values: Mapping[str, Value]) -> bool:
        return False


class _Forgetful:
    def note(self, handle: str) -> None:
        """Kept nowhere."""

    def last(self) -> str | None:
        return None


class CutsTheBatch(Mutant):
    caught_by = "test_a_batch_above_the_limit_is_split_and_not_cut"

    def _send(self, changes: Changes, rows: Sequence[Any], numbers: Sequence[int], done: dict[int, Result]) -> None:
        if numbers[0] < self.spec.limits.write_rows:
            return super()._send(changes, rows, numbers, done)
        return done.update({number: {"state": "applied"} for number in numbers})


class CreatesOnUpdate(Mutant):
    caught_by = "test_update_never_creates"

    def _missing(self, session: Session, key: tuple[Value, ...], values: Mapping[str, Value]) -> Result:
        session.change(key, dict(zip(("clinic", "number"), key, strict=True)) | dict(values))
        return {"state": "applied"}


class OverwritesOnCreate(Mutant):
    caught_by = "test_create_never_changes_a_record_that_stands"

    def write(self, changes: Changes, *, journal: Journal) -> Results:
        mode = Mode.UPSERT if changes.mode is Mode.CREATE else changes.mode
        return super().write(Changes(changes.entity, mode, changes.fields, changes.frame), journal=journal)


class TellsAnOldVersion(Mutant):
    caught_by = "test_a_version_told_by_a_result_is_the_one_a_reader_sees"

    def _results(self, told: Sequence[Result]) -> Results:
        return super()._results([{**each, "version": "1"} for each in told])


# Faults


class IgnoresTheDeadline(Mutant):
    caught_by = "test_a_silent_far_side_ends_at_the_deadline"

    def __init__(self, config: StandInConfig, context: Context) -> None:
        super().__init__(config, Context(log=context.log))

    def _open(self) -> Session:
        if self.config.address.endswith("#hang"):
            Event().wait(0.3)
            raise LinkLostError
        return super()._open()


class LosesTheDelay(Mutant):
    caught_by = "test_a_busy_far_side_is_unavailable_with_its_delay"

    def check(self, names: Collection[str] | None = None) -> CheckReport:
        try:
            return super().check(names)
        except UnavailableError as error:
            raise UnavailableError(error.message) from None


class ShowsTheExpiredToken(Mutant):
    caught_by = "test_a_token_that_expires_is_not_seen"

    def _ask(self, act: Any) -> Any:
        session = self._open()
        if session.fault == "expire":
            session._calls += 1
            if session._calls > 3:
                raise UnavailableError("The token ran out.")
        return super()._ask(act)


class ClaimsWhatWasLost(Mutant):
    caught_by = "test_a_write_cut_off_claims_nothing_that_is_not_there"

    def _results(self, told: Sequence[Result]) -> Results:
        lost = [number for number, each in enumerate(told) if each["state"] == "unknown"]
        return super()._results([{"state": "applied"} if n in lost[1:] else each for n, each in enumerate(told)])


class WritesTwiceAfterACut(WritesTwiceOnRepeat):
    caught_by = "test_a_write_cut_off_and_repeated_is_one_change"

    def _before_moved(self, row: Row, change: Mapping[str, Any]) -> bool:
        return False


class KeepsABrokenLink(Mutant):
    caught_by = "test_a_read_cut_off_resumes_without_loss"

    def read(self, selection: Selection, *, after: Cursor | None = None) -> Iterator[Page]:
        last = after
        try:
            for page in super().read(selection, after=after):
                yield page
                last = page.cursor
        except UnavailableError:
            del last
            return


# Hygiene


class LogsTheSecret(Mutant):
    caught_by = "test_the_planted_secret_is_never_seen"

    def check(self, names: Collection[str] | None = None) -> CheckReport:
        self.context.log.debug("login", token=self.config.token.reveal())
        return super().check(names)


class KeepsTheSecretInALocal(Mutant):
    caught_by = "test_the_planted_secret_is_never_seen"

    def check(self, names: Collection[str] | None = None) -> CheckReport:
        token = self.config.token.reveal()
        assert token
        return super().check(names)


class PrintsTheSecret(Mutant):
    caught_by = "test_the_planted_secret_is_never_seen"

    def __repr__(self) -> str:
        return f"StandIn({self.config.token.reveal()})"


class LogsRecords(Mutant):
    caught_by = "test_seeded_values_are_in_no_log_or_error"

    def _page(self, selection: Selection, found: Sequence[Row], at: tuple[Any, ...]) -> Page:
        self.context.log.debug("page", first=found[0].values)
        return super()._page(selection, found, at)


class QuotesTheValueItRejects(Mutant):
    caught_by = "test_seeded_values_are_in_no_log_or_error"

    def _apply(self, session: Session, changes: Changes, change: Mapping[str, Any]) -> Result:
        told = super()._apply(session, changes, change)
        return {**told, "reason": f"refused: {change['name']}"} if told["state"] == "rejected" else told


class KeepsItsSocket(Mutant):
    caught_by = "test_sockets_and_files_are_given_back"

    def close(self) -> None:
        if self._session is not None:
            self._session.far.rows.setdefault(("kept", id(self)), Row({}, deleted=True)).values["kept"] = None
            _KEPT.append(self._session)
        self._session = None


_KEPT: list[Session] = []


def let_go() -> None:
    """Closes what a mutant kept, so that the next test starts clean."""
    while _KEPT:
        _KEPT.pop().close()


class ClosesOnceOnly(Mutant):
    caught_by = "test_closing_twice_is_harmless"

    def close(self) -> None:
        if self._session is None:
            raise UnavailableError("already closed")
        super().close()


class AsksTheEnvironment(Mutant):
    caught_by = "test_nothing_is_taken_from_environment_or_home"

    def check(self, names: Collection[str] | None = None) -> CheckReport:
        os.environ.get("STAND_IN_TOKEN")
        return super().check(names)


MUTANTS: tuple[type[Mutant], ...] = tuple(
    each
    for each in globals().values()
    if isinstance(each, type) and issubclass(each, Mutant) and hasattr(each, "caught_by")
)
