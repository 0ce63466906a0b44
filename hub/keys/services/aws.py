"""Clients of AWS with the login that a setting names; needs the extra `aws`."""

from __future__ import annotations

import configparser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hub.keys.services.logins import login_file
from hub.sdk import UnauthorizedError, UnavailableError
from hub.sdk.xml import judge_xml
from hub.settings import Settings

KEYS = "an AWS credentials file with one profile"
XML_PROTOCOLS = frozenset({"ec2", "query", "rest-xml"})
MOST_LISTED = 16 * 1024**2
"""Bytes of XML in one answer: a list of a thousand objects has less."""
AWAY = frozenset(
    {
        "DependencyTimeoutException",
        "InternalServiceError",
        "KMSInternalException",
        "KeyUnavailableException",
        "RequestTimeout",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingException",
    }
)


def aws_client(settings: Settings, service: str, endpoint: str | None) -> Any:
    """A client of one service. UnauthorizedError says which setting is missing; nothing else is looked for."""
    try:
        from botocore.config import Config
    except ImportError:
        raise UnauthorizedError("AWS needs the extra aws: pip install 'hub[aws]'") from None
    if not settings.aws_region:
        raise UnauthorizedError("HUB_AWS_REGION is not set: expected a region such as eu-central-1")
    keys = {} if settings.aws_login == "role" else _keys(settings)
    config = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 3, "mode": "standard"})
    session = aws_session(region_name=settings.aws_region, **keys)
    trust: Any = str(settings.service_authorities) if settings.service_authorities is not None else True
    return session.client(service, endpoint_url=endpoint, config=config, verify=trust)


def aws_session(**given: Any) -> Any:
    """A session of boto3 whose clients, those for its own logins too, are shown no XML that grows or names files."""
    import boto3
    import botocore.session

    inner = botocore.session.get_session()
    # Both stars: what is registered for one service by its name is called after this, and some of it reads XML.
    inner.register("before-parse.*.*", _judge)
    return boto3.session.Session(botocore_session=inner, **given)


def _judge(operation_model: Any, response_dict: dict[str, Any], **_more: Any) -> None:
    body = response_dict["body"]
    if operation_model.service_model.resolved_protocol in XML_PROTOCOLS and isinstance(body, bytes) and body:
        judge_xml(body, most_bytes=MOST_LISTED)


@contextmanager
def aws_errors(what: str) -> Iterator[None]:
    """AWS's errors as the four of `hub.sdk`, save those that the block answers itself."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in AWAY or error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
            raise UnavailableError(f"AWS cannot {what} now", detail=code) from None
        raise UnauthorizedError(f"AWS refuses to {what}: {code}", detail=code) from None
    except NoCredentialsError:
        raise UnauthorizedError("HUB_AWS_LOGIN is role, but this machine has none") from None
    except BotoCoreError as error:
        raise UnavailableError(f"AWS cannot be reached to {what}", detail=type(error).__name__) from None


def _keys(settings: Settings) -> dict[str, str]:
    text = login_file("HUB_AWS_LOGIN", settings.aws_login, f"{KEYS}; or `role`, for the role that this machine has")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
        found = parser[parser.sections()[0]]
        keys = {name: found[name] for name in ("aws_access_key_id", "aws_secret_access_key")}
    except (configparser.Error, IndexError, KeyError):
        raise UnauthorizedError(f"HUB_AWS_LOGIN names a file that is not {KEYS}") from None
    if token := found.get("aws_session_token"):
        keys["aws_session_token"] = token
    return keys
