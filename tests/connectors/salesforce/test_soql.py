"""The text of a query: what stands where a name belongs is a name, and what is a value is quoted."""

from __future__ import annotations

import pytest

from connectors.salesforce import soql
from hub.sdk import UnexpectedError


def test_a_query_of_the_orgs_own_setup_holds_names_and_quoted_values() -> None:
    conditions = [soql.equal("ParentId", "0PS'x"), soql.one_of("Field", ["Lead.Score__c", "a\\b"])]
    assert soql.query("FieldPermissions", ["Id", "Id", "Parent.Name"], conditions) == (
        "SELECT Id, Parent.Name FROM FieldPermissions WHERE (ParentId = '0PS\\'x') AND"
        " (Field IN ('Lead.Score__c', 'a\\\\b'))"
    )


@pytest.mark.parametrize("name", ["", "Id FROM User", "Id,Name", "a'b", "1st", "Parent.", "Größe", "Id\n"])
def test_what_is_no_name_comes_into_no_query(name: str) -> None:
    for made in (
        lambda: soql.query(name, ["Id"]),
        lambda: soql.query("User", [name]),
        lambda: soql.equal(name, "x"),
        lambda: soql.one_of(name, ["x"]),
    ):
        with pytest.raises(UnexpectedError, match="a name that no object or field"):
            made()
