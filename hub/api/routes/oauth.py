"""`POST /oauth/token` and what describes it: short access tokens for programs that prove who they are (OAuth 2.0)."""

from __future__ import annotations

from base64 import b64decode
from typing import Annotated, Any
from urllib.parse import parse_qsl, unquote_plus

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.security.utils import get_authorization_scheme_param
from pydantic import BaseModel

from hub.access import Scope
from hub.access.jose import ASYMMETRIC
from hub.access.oauth import ClientMethod, Presented, TokenGrantError
from hub.access.types import PERSONAL
from hub.api.access import Anybody, Gate, Hub
from hub.api.routes.answers import answer, problems

FORM = "application/x-www-form-urlencoded"
MOST_FIELDS = 20

router = APIRouter(tags=["oauth"])

Prover = Annotated[None, Depends(Anybody("it is where a program proves who it is"))]
Reader = Annotated[None, Depends(Anybody("addresses and public keys, which everybody may know"))]


class TokenAnswer(BaseModel):
    """An access token, good for ten minutes; there is no other that renews it."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str


class TokenRefusal(BaseModel):
    """Why there is no token, as RFC 6749, section 5.2, has it."""

    error: str
    error_description: str


class KeySet(BaseModel):
    """The public keys of the hub's access tokens (RFC 7517)."""

    keys: list[dict[str, Any]]


class Metadata(BaseModel):
    """What the token endpoint knows (RFC 8414)."""

    issuer: str
    token_endpoint: str
    jwks_uri: str
    grant_types_supported: list[str]
    response_types_supported: list[str]
    scopes_supported: list[str]
    token_endpoint_auth_methods_supported: list[str]
    token_endpoint_auth_signing_alg_values_supported: list[str]
    tls_client_certificate_bound_access_tokens: bool


ASKED: dict[str, Any] = {
    "required": True,
    "content": {
        FORM: {
            "schema": {
                "type": "object",
                "required": ["grant_type"],
                "properties": {
                    "grant_type": {"type": "string", "enum": ["client_credentials"]},
                    "scope": {"type": "string", "description": "Scopes separated by blanks; left out: all it holds."},
                    "client_id": {"type": "string", "description": "Needed with a certificate alone."},
                    "client_assertion_type": {"type": "string"},
                    "client_assertion": {"type": "string"},
                },
            }
        }
    },
}
REFUSED: dict[int | str, dict[str, Any]] = {
    400: {"description": "the request, its grant or its scope is not allowed", "model": TokenRefusal},
    401: {"description": "the client is not known or did not prove who it is", "model": TokenRefusal},
    **{status: told for status, told in problems(429, 503).items() if status in (429, 503)},
}


@router.post(
    "/oauth/token",
    summary="Take an access token",
    response_model=TokenAnswer,
    responses=REFUSED,
    openapi_extra={"requestBody": ASKED},
)
async def token(hub: Hub, request: Request, _caller: Prover) -> Response:
    """Client credentials alone, by client_secret_basic, private_key_jwt or tls_client_auth."""
    await hub.hold_back(request)
    try:
        made = await run_in_threadpool(hub.hub.access.clients.token, await _presented(request))
    except TokenGrantError as error:
        return await _refusal(hub, request, error)
    return answer(made)


@router.get("/.well-known/jwks.json", summary="Read the keys of access tokens", response_model=KeySet)
def keys(hub: Hub, _caller: Reader) -> Response:
    """The public half of the key that signs access tokens, and nothing else is signed with."""
    return answer(hub.hub.access.clients.issuer.jwks())


@router.get(
    "/.well-known/oauth-authorization-server", summary="Read what the token endpoint knows", response_model=Metadata
)
def metadata(hub: Hub, _caller: Reader) -> Response:
    """Issuer, addresses and ways to prove who one is."""
    clients = hub.hub.access.clients
    return answer(
        Metadata(
            issuer=clients.issuer.issuer,
            token_endpoint=clients.endpoint,
            jwks_uri=f"{clients.issuer.issuer}/.well-known/jwks.json",
            grant_types_supported=["client_credentials"],
            response_types_supported=[],
            scopes_supported=sorted(set(Scope) - PERSONAL),
            token_endpoint_auth_methods_supported=[each.value for each in ClientMethod],
            token_endpoint_auth_signing_alg_values_supported=sorted(ASYMMETRIC),
            tls_client_certificate_bound_access_tokens=True,
        ).model_dump()
    )


async def _presented(request: Request) -> Presented:
    """What a request brings along. TokenGrantError where it is no form, or names something twice."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != FORM:
        raise TokenGrantError("invalid_request", f"the body must be {FORM}")
    try:
        text = (await request.body()).decode("ascii")
        fields = parse_qsl(text, keep_blank_values=False, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError:
        raise TokenGrantError("invalid_request", "the body is no form that can be read") from None
    form = dict(fields)
    if len(form) != len(fields):
        raise TokenGrantError("invalid_request", "a field of the form is there twice")
    address = request.client.host if request.client is not None else None
    return Presented(form, _basic(request), request.scope.get("hub.certificate"), address)


def _basic(request: Request) -> tuple[str, str] | None:
    """Id and secret of the header, each form-encoded before (RFC 6749, section 2.3.1)."""
    header = request.headers.get("authorization")
    if header is None:
        return None
    kind, text = get_authorization_scheme_param(header)
    try:
        client, colon, secret = b64decode(text, validate=True).decode("utf-8").partition(":")
    except ValueError:
        colon = ""
    if kind.lower() != "basic" or not colon:
        raise TokenGrantError("invalid_client", "the Authorization header holds no id and secret (Basic)")
    return unquote_plus(client), unquote_plus(secret)


async def _refusal(hub: Gate, request: Request, error: TokenGrantError) -> Response:
    unproven = error.code == "invalid_client"
    if unproven:
        await hub.failed(request)
    headers = {"WWW-Authenticate": 'Basic realm="hub"'} if unproven else {}
    content = {"error": error.code, "error_description": str(error)}
    return answer(content, 401 if unproven else 400, headers)
