"""Small servers that behave as key services do, over TLS on this machine: AWS KMS and Secrets Manager, and Vault."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class Asked(NamedTuple):
    """One request, as the twin sees it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


Answered = tuple[int, Any]


@contextmanager
def served(answer: Callable[[Asked], Answered], tls: ssl.SSLContext) -> Iterator[str]:
    """The https address at which `answer` answers."""

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, body = answer(Asked(self.command, self.path, headers, self.rfile.read(size)))
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"https://localhost:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class AwsTwin:
    """KMS keys that never leave it, and named secrets; judges login, signature and encryption context as AWS does."""

    KEY_ID, KEY = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    REGION = "eu-central-1"

    def __init__(self) -> None:
        self.keys: dict[str, bytes] = {}
        self.secrets: dict[str, str] = {}
        self.contexts: list[Mapping[str, str]] = []
        self.calls: list[str] = []
        self.denied: set[str] = set()
        self.away = False

    def add_key(self) -> str:
        """The ARN of a new symmetric key."""
        arn = f"arn:aws:kms:{self.REGION}:111122223333:key/{os.urandom(16).hex()}"
        self.keys[arn] = os.urandom(32)
        return arn

    def answer(self, asked: Asked) -> Answered:
        """As KMS and Secrets Manager answer over AWS JSON 1.1."""
        call = asked.headers.get("x-amz-target", "").partition(".")[2]
        self.calls.append(call)
        if self.away:
            return 503, {"__type": "KMSInternalException"}
        if not self._signed(asked):
            return 400, {"__type": "InvalidSignatureException", "message": "the signature does not match"}
        if call in self.denied:
            return 400, {"__type": "AccessDeniedException", "message": f"not authorized to perform {call}"}
        known = {
            "Encrypt": self._encrypt,
            "Decrypt": self._decrypt,
            "ReEncrypt": self._re_encrypt,
            "GetSecretValue": self._secret,
        }
        return known[call](asked.json())

    def _encrypt(self, told: Mapping[str, Any]) -> Answered:
        context = told.get("EncryptionContext", {})
        self.contexts.append(context)
        blob = self._sealed(told["KeyId"], base64.b64decode(told["Plaintext"]), context)
        return 200, {"CiphertextBlob": base64.b64encode(blob).decode(), "KeyId": told["KeyId"]}

    def _decrypt(self, told: Mapping[str, Any]) -> Answered:
        found = self._opened(told["CiphertextBlob"], told["KeyId"], told.get("EncryptionContext", {}))
        if isinstance(found, str):
            return 400, {"__type": found}
        return 200, {"Plaintext": base64.b64encode(found).decode(), "KeyId": told["KeyId"]}

    def _re_encrypt(self, told: Mapping[str, Any]) -> Answered:
        found = self._opened(told["CiphertextBlob"], told["SourceKeyId"], told.get("SourceEncryptionContext", {}))
        if isinstance(found, str):
            return 400, {"__type": found}
        blob = self._sealed(told["DestinationKeyId"], found, told.get("DestinationEncryptionContext", {}))
        return 200, {"CiphertextBlob": base64.b64encode(blob).decode(), "KeyId": told["DestinationKeyId"]}

    def _secret(self, told: Mapping[str, Any]) -> Answered:
        if told["SecretId"] not in self.secrets:
            return 400, {"__type": "ResourceNotFoundException", "message": "can't find the specified secret"}
        return 200, {"Name": told["SecretId"], "SecretString": self.secrets[told["SecretId"]], "VersionId": "v1"}

    def _sealed(self, arn: str, plain: bytes, context: Mapping[str, str]) -> bytes:
        nonce = os.urandom(12)
        body = AESGCM(self.keys[arn]).encrypt(nonce, plain, _context(context))
        return bytes([len(arn)]) + arn.encode() + nonce + body

    def _opened(self, blob: str, arn: str, context: Mapping[str, str]) -> bytes | str:
        raw = base64.b64decode(blob)
        named = raw[1 : 1 + raw[0]].decode(errors="replace") if raw else ""
        rest = raw[1 + raw[0] :] if raw else b""
        if named != arn:
            return "IncorrectKeyException" if named in self.keys else "InvalidCiphertextException"
        try:
            return AESGCM(self.keys[arn]).decrypt(rest[:12], rest[12:], _context(context))
        except (InvalidTag, ValueError):
            return "InvalidCiphertextException"

    def _signed(self, asked: Asked) -> bool:
        """Signature Version 4, by the published steps."""
        told = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d+)/([^/]+)/([^/]+)/aws4_request, "
            r"SignedHeaders=([^,]+), Signature=([0-9a-f]+)",
            asked.headers.get("authorization", ""),
        )
        if told is None or (told[1], told[3]) != (self.KEY_ID, self.REGION):
            return False
        lines = "".join(f"{name}:{asked.headers[name].strip()}\n" for name in told[5].split(";"))
        digest = hashlib.sha256(asked.body).hexdigest()
        request = f"{asked.method}\n{asked.path}\n\n{lines}\n{told[5]}\n{digest}"
        scope = "/".join((told[2], told[3], told[4], "aws4_request"))
        stamped = asked.headers["x-amz-date"]
        wanted = f"AWS4-HMAC-SHA256\n{stamped}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        key = f"AWS4{self.KEY}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.compare_digest(hmac.digest(key, wanted.encode(), "sha256").hex(), told[6])


class VaultTwin:
    """Derived transit keys with versions and a floor, and secrets of the key-value engine, for one token."""

    TOKEN = "hvs.CAESIexampletoken"

    def __init__(self) -> None:
        self.versions: dict[str, list[bytes]] = {}
        self.floors: dict[str, int] = {}
        self.derived = True
        self.secrets: dict[str, Mapping[str, str]] = {}
        self.calls: list[str] = []
        self.denied: set[str] = set()
        self.namespaces: list[str | None] = []
        self.away = False

    def add_key(self, name: str) -> None:
        """A key of the transit engine."""
        self.versions[name] = [os.urandom(32)]
        self.floors[name] = 1

    def answer(self, asked: Asked) -> Answered:
        """As Vault answers below `/v1/`."""
        path = asked.path.removeprefix("/v1/")
        self.calls.append(path)
        self.namespaces.append(asked.headers.get("x-vault-namespace"))
        if self.away:
            return 503, {"errors": ["Vault is sealed"]}
        if asked.headers.get("x-vault-token") != self.TOKEN or path in self.denied:
            return 403, {"errors": ["permission denied"]}
        if path.startswith("kv/data/"):
            held = self.secrets.get(path.removeprefix("kv/data/"))
            return (
                (404, {"errors": []}) if held is None else (200, {"data": {"data": held, "metadata": {"version": 1}}})
            )
        found = re.fullmatch(r"transit/(keys|encrypt|decrypt|rewrap)/([^/]+)(?:/(rotate|config))?", path)
        if found is None or found[2] not in self.versions:
            return 404, {"errors": ["no such key"]}
        return self._transit(found[1], found[2], found[3], asked)

    def _transit(self, call: str, name: str, act: str | None, asked: Asked) -> Answered:
        versions = self.versions[name]
        if call == "keys" and act is None:
            facts = {"derived": self.derived, "latest_version": len(versions), "type": "aes256-gcm96"}
            return 200, {"data": facts | {"min_decryption_version": self.floors[name]}}
        if act == "rotate":
            versions.append(os.urandom(32))
            return 200, {"data": {}}
        told = asked.json()
        if act == "config":
            self.floors[name] = told["min_decryption_version"]
            return 200, {"data": {}}
        if "context" not in told:
            return 400, {"errors": ["missing 'context' for key derivation"]}
        context = base64.b64decode(told["context"])
        plain = base64.b64decode(told["plaintext"]) if call == "encrypt" else self._opened(name, told, context)
        if plain is None:
            return 400, {"errors": ["cipher: message authentication failed"]}
        if call == "decrypt":
            return 200, {"data": {"plaintext": base64.b64encode(plain).decode()}}
        nonce = os.urandom(12)
        body = nonce + AESGCM(_derived(versions[-1], context)).encrypt(nonce, plain, None)
        return 200, {"data": {"ciphertext": f"vault:v{len(versions)}:{base64.b64encode(body).decode()}"}}

    def _opened(self, name: str, told: Mapping[str, Any], context: bytes) -> bytes | None:
        found = re.fullmatch(r"vault:v(\d+):(.*)", told["ciphertext"])
        if found is None or not self.floors[name] <= int(found[1]) <= len(self.versions[name]):
            return None
        raw = base64.b64decode(found[2])
        try:
            key = _derived(self.versions[name][int(found[1]) - 1], context)
            return AESGCM(key).decrypt(raw[:12], raw[12:], None)
        except (InvalidTag, ValueError):
            return None


def _derived(key: bytes, context: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=context).derive(key)


def _context(context: Mapping[str, str]) -> bytes:
    return json.dumps(dict(sorted(context.items()))).encode()
