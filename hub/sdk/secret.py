"""A value that cannot be printed, pickled, copied, compared or serialised by accident."""

from __future__ import annotations

from typing import Any, NoReturn, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from hub.sdk.errors import UnexpectedError


class Secret:
    """Holds one secret text; `reveal()` is the only way out and is easy to search for.

    pydantic's own `SecretStr` pickles with its value and compares; this type refuses both.
    """

    __slots__ = ("__value", "__weakref__")

    def __init__(self, value: str) -> None:
        self.__value: str | None = value

    @classmethod
    def withheld(cls) -> Self:
        """A secret that is set and not here: whoever is given a token of the far side needs no more."""
        made = cls("")
        made.forget()
        return made

    def forget(self) -> None:
        """Drops the text: it was lent for a while."""
        self.__value = None

    def reveal(self) -> str:
        """The text itself, for handing to a driver and nothing else. UnexpectedError where it is withheld or over."""
        if self.__value is None:
            raise UnexpectedError("a secret was asked for that is withheld, or was lent for a time that is over")
        return self.__value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __bool__(self) -> bool:
        return self.__value != ""

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("a Secret is never compared; compare digests in constant time where you must")

    __hash__ = None  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a Secret is never pickled or copied")

    def __copy__(self) -> NoReturn:
        raise TypeError("a Secret is never copied")

    def __deepcopy__(self, memo: Any) -> NoReturn:
        raise TypeError("a Secret is never copied")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Accepts text or a Secret; dumps as `***`, whatever the mode."""
        from_text = core_schema.no_info_after_validator_function(cls, core_schema.str_schema())
        return core_schema.json_or_python_schema(
            json_schema=from_text,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), from_text]),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda _: "***"),
        )
