"""Check: a connection says who it is and which rights it holds, and a refused or absent far side is told by name."""

from __future__ import annotations

from hub.sdk import Grant, Mode, UnauthorizedError, UnavailableError
from hub.sdk.testing.harness import Fault, Harness
from hub.sdk.testing.suite.steps import opened, raising, targets, throws


class CheckGroup:
    """Runs for every connector."""

    def test_check_names_identity_and_product(self, harness: Harness) -> None:
        with opened(harness) as connector:
            report = connector.check()
        assert report.identity.strip(), "check does not say who we are"
        assert report.product.strip(), "check does not say what we speak to"

    def test_check_reports_every_mandatory_right_and_no_unknown_one(self, harness: Harness) -> None:
        with opened(harness) as connector:
            report = connector.check()
        told = {each.right for each in report.rights}
        assert {each.name for each in harness.spec.rights if each.mandatory} <= told, "a mandatory right is not told"
        assert told <= {each.name for each in harness.spec.rights}, "a right is told that the spec does not name"
        assert not report.missing, f"the harness's own login lacks {report.missing}"

    def test_a_missing_right_is_reported_by_name(self, harness: Harness) -> None:
        throws(harness, Fault.RIGHT)
        assert harness.withheld in {each.name for each in harness.spec.rights}
        with opened(harness, Fault.RIGHT) as connector:
            report = connector.check()
        assert any(harness.withheld in each.split() or each == harness.withheld for each in report.missing)

    def test_a_bad_login_is_an_unauthorized_error(self, harness: Harness) -> None:
        throws(harness, Fault.LOGIN)
        with opened(harness) as connector:
            connector.check()
        with raising(UnauthorizedError), opened(harness, Fault.LOGIN) as connector:
            connector.check()

    def test_a_far_side_that_is_down_is_an_unavailable_error(self, harness: Harness) -> None:
        throws(harness, Fault.DOWN)
        with opened(harness) as connector:
            connector.check()
        with raising(UnavailableError), opened(harness, Fault.DOWN) as connector:
            connector.check()

    def test_the_plan_names_what_to_grant(self, harness: Harness) -> None:
        entity, grant = harness.entity, _whole(harness)
        with opened(harness) as connector:
            plan = connector.plan(grant)
            nothing = connector.plan(Grant())
        assert entity.name in plan, "the plan does not name the entity"
        assert entity.name not in nothing, "the plan asks for more than the grant"

    def test_verify_finds_its_own_login_sufficient(self, harness: Harness) -> None:
        grant = _whole(harness)
        with opened(harness) as connector:
            report = connector.verify(grant)
            again = connector.verify(grant)
        assert report.identity.strip(), "verify does not say who we are"
        assert not report.missing, f"the harness's own login lacks {report.missing}"
        assert report == again, "the same rights are told in other words"

    def test_verify_names_a_missing_right(self, harness: Harness) -> None:
        throws(harness, Fault.RIGHT)
        with opened(harness, Fault.RIGHT) as connector:
            report = connector.verify(_whole(harness))
        assert any(harness.hidden in each or harness.withheld in each for each in report.missing), report.missing

    def test_verify_names_what_is_held_beyond_the_grant(self, harness: Harness) -> None:
        entity = harness.entity
        narrow = Grant(reads={entity.name: frozenset(entity.key)})
        with opened(harness) as connector:
            report = connector.verify(narrow)
        assert report.excess or report.untold, "every right but those on the key is beyond the grant, and none is told"

    def test_the_roles_are_those_the_spec_names(self, harness: Harness) -> None:
        with opened(harness) as connector:
            roles = {
                "source": connector.source(),
                "destination": connector.destination(),
                "live": connector.live(),
                "provisioner": connector.provisioner(),
            }
        played = {name for name, role in roles.items() if role is not None}
        assert played <= harness.spec.roles, f"{played - harness.spec.roles} are played and not named"
        assert "destination" in harness.spec.roles or not harness.entity.modes & set(Mode)


def _whole(harness: Harness) -> Grant:
    """Every field is read; one is written where any can be."""
    entity = harness.entity
    written = frozenset({targets(harness)[0].name}) if entity.modes else frozenset()
    return Grant(
        reads={entity.name: frozenset(each.name for each in entity.fields)},
        writes={entity.name: written} if written else {},
        modes={entity.name: frozenset({min(entity.modes)})} if written else {},
    )
