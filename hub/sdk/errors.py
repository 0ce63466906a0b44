"""The four errors of a connector, told apart by who must act."""

from __future__ import annotations


class ConnectorError(Exception):
    """Root of the four. `message` is for a customer, `detail` for the log; neither holds record values or secrets."""

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class UnavailableError(ConnectorError):
    """The far side is down, busy or slow: wait `retry_after` seconds (None: the caller's own back-off) and repeat."""

    def __init__(self, message: str, *, retry_after: float | None = None, detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.retry_after = retry_after


class UnauthorizedError(ConnectorError):
    """A person must act: the login is refused, or the rights named in `missing` are not granted."""

    def __init__(self, message: str, *, missing: tuple[str, ...] = (), detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.missing = missing


class RejectedError(ConnectorError):
    """This record only: `field` is the offending field where the far side named one."""

    def __init__(self, message: str, *, field: str | None = None, detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.field = field


class UnexpectedError(ConnectorError):
    """Stop: our fault, or the far side is no longer what it was when the mapping was checked."""
