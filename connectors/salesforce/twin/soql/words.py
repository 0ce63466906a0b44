"""The sentences in which a query is told that a name is unknown."""

from __future__ import annotations

_LOOK_UP = "Please reference your WSDL or the describe call for the appropriate names."


def unknown_object(name: str) -> str:
    """No object has that name."""
    hint = "If you are attempting to use a custom object, be sure to append the '__c' after the entity name."
    return f"sObject type '{name}' is not supported. {hint} {_LOOK_UP}"


def unknown_field(name: str, entity: str) -> str:
    """The object has no such field, or not for this user."""
    hint = "If you are attempting to use a custom field, be sure to append the '__c' after the custom field name."
    return f"No such column '{name}' on entity '{entity}'. {hint} {_LOOK_UP}"


def unknown_relationship(name: str, where: str) -> str:
    """No relationship has that name."""
    hint = "be sure to append the '__r' after the custom relationship name."
    return (
        f"Didn't understand relationship '{name}' in {where}. If you are attempting to use a custom relationship,"
        f" {hint} {_LOOK_UP}"
    )
