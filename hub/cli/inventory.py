"""The inventory of the cryptography, read from the source: which primitives are used, by which module, and for what.

What is used and not described here, or described and not used, is an error: the page cannot be written then.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

PACKAGES = ("hub", "connectors")
NOT_SHIPPED = ("hub/sdk/testing/", "connectors/salesforce/twin/")
"""What stands for a far side in tests and rehearsals: it protects nothing of anybody's."""
LIBRARIES = ("argon2", "cryptography", "hashlib", "hmac", "jwt", "secrets", "ssl")
SYSTEM = ("os.urandom",)
WORTH_PARSING = re.compile(rf"\b({'|'.join(LIBRARIES)})\b|urandom|\.mac\(|open_signing_key|\"kind\": ")
"""In the text of a module: it may hold something of this."""
NO_PRIMITIVE = frozenset(
    {
        "argon2.exceptions.VerifyMismatchError",
        "cryptography.exceptions.InvalidSignature",
        "cryptography.exceptions.InvalidTag",
        "cryptography.hazmat.primitives.serialization.Encoding",
        "cryptography.hazmat.primitives.serialization.NoEncryption",
        "cryptography.hazmat.primitives.serialization.PrivateFormat",
        "cryptography.hazmat.primitives.serialization.PublicFormat",
        "hmac.compare_digest",
        "secrets.compare_digest",
        "ssl.DER_cert_to_PEM_cert",
        "ssl.SSLContext",
        "ssl.SSLError",
    }
)
"""Errors, forms of keys and comparisons of the same libraries."""

ED25519 = "Ed25519 (RFC 8032)"
TOKENS = "signatures of tokens: RS256 (RFC 7518), ES256, EdDSA (RFC 8037); by the key's kind, never by the token's word"
AGREEMENT = "HPKE (RFC 9180): X25519, HKDF-SHA-256, AES-256-GCM"
RANDOM = "the system's random source"
TLS = "TLS 1.2 or newer, as Python's default context sets it; certificates and names are verified"
ALGORITHMS: Mapping[str, str] = {
    "argon2.PasswordHasher": "argon2id (RFC 9106): the password of the first account",
    "cryptography.hazmat.primitives.asymmetric.ec.EllipticCurvePublicKey": TOKENS,
    "cryptography.hazmat.primitives.asymmetric.ed25519.Ed25519PrivateKey": ED25519,
    "cryptography.hazmat.primitives.asymmetric.ed25519.Ed25519PublicKey": ED25519,
    "cryptography.hazmat.primitives.asymmetric.rsa.RSAPublicKey": TOKENS,
    "cryptography.hazmat.primitives.asymmetric.x25519.X25519PrivateKey": AGREEMENT,
    "cryptography.hazmat.primitives.asymmetric.x25519.X25519PublicKey": AGREEMENT,
    "cryptography.hazmat.primitives.ciphers.aead.AESGCM": "AES-256-GCM (SP 800-38D), a key of its own for each value",
    "cryptography.hazmat.primitives.hashes.SHA1": "HMAC-SHA-1 in TOTP alone, which authenticators speak (RFC 6238)",
    "cryptography.hazmat.primitives.hashes.SHA256": "SHA-256 (FIPS 180-4)",
    "cryptography.hazmat.primitives.hpke.AEAD": AGREEMENT,
    "cryptography.hazmat.primitives.hpke.KDF": AGREEMENT,
    "cryptography.hazmat.primitives.hpke.KEM": AGREEMENT,
    "cryptography.hazmat.primitives.hpke.Suite": AGREEMENT,
    "cryptography.hazmat.primitives.kdf.hkdf.HKDF": "HKDF-SHA-256 (RFC 5869): keys of one purpose each",
    "cryptography.hazmat.primitives.twofactor.totp.TOTP": "TOTP (RFC 6238): the first account's second factor",
    "cryptography.x509": "X.509: a caller's certificate is read, its chain is the proxy's to verify",
    "hashlib.blake2b": "BLAKE2b (RFC 7693): tells what is equal; nothing rests on it that anybody could forge",
    "hashlib.md5": "MD5: the function `md5` of mapping expressions; protects nothing",
    "hashlib.sha224": "SHA-224: the function `sha2` of mapping expressions; protects nothing",
    "hashlib.sha256": "SHA-256 (FIPS 180-4)",
    "hashlib.sha384": "SHA-384: the function `sha2` of mapping expressions; protects nothing",
    "hashlib.sha512": "SHA-512: within Ed25519, in the verifier that needs no library; and the function `sha2`",
    "hmac.digest": "HMAC-SHA-256 (RFC 2104)",
    "jwt": TOKENS,
    "os.urandom": RANDOM,
    "secrets": RANDOM,
    "ssl": TLS,
}
"""What each primitive is. A name stands for everything below it that has no line of its own."""
PURPOSES: Mapping[str, str] = {
    "access-client": "the secrets of clients of `/oauth/token`",
    "access-token": "API keys",
    "address": "addresses of people who log in, as the trail names them",
    "approval": "what two people agreed on",
    "connection": "where a credential goes",
    "login-attempt": "whose failed logins are counted",
    "mapping": "published versions of mappings",
    "record-key": "records, as the trail names them",
    "sealing-key": "the public key that secrets are sealed to",
    "session": "cookies of sessions",
    "setup-secret": "the secret that makes the first account",
    "signin": "logins that are on their way",
}
"""What the keyed digests (HMAC-SHA-256, under a key that HKDF derives for each) bind or hide."""
SIGNED: Mapping[str, str] = {
    "access-token": "access tokens of `/oauth/token`",
    "audit-log": "checkpoints of the audit log",
}
"""What the hub signs, with an Ed25519 key for each."""
SEALED: Mapping[str, str] = {
    "access_token": "tokens of far sides",
    "audit-subject": "what events tell of one subject",
    "decision_file": "archived decisions",
    "decision_result": "what a segment of decisions came to",
    "model-part": "models",
    "place": "how far a source was read",
    "probe": "a value that is sealed and opened to see that both work",
    "request": "records that somebody sent to be scored",
    "root": "the root of all keyed digests",
    "sealing-key": "the private key that secrets are sealed to",
    "signing-key": "the private keys that sign",
    "working-key": "the keys that wrap what is sealed many times a second",
}
"""Kinds of values that are sealed by AES-256-GCM under a data key of their own."""


class InventoryError(Exception):
    """The source uses what the inventory does not describe, or no longer what it does."""


@cache
def inventory() -> list[str]:
    """The page's tables, line by line. InventoryError names what is missing or too much."""
    used: dict[str, set[str]] = defaultdict(set)
    found: dict[str, set[str]] = {"mac": set(), "sign": set(), "kind": set()}
    for name, module in _modules():
        for primitive in _primitives(module):
            used[primitive].add(name)
        for kind, told in _purposes(module):
            found[kind].add(told)
    _agree("primitives", set(used), set(ALGORITHMS))
    _agree("purposes of keyed digests", found["mac"], set(PURPOSES))
    _agree("signing keys", found["sign"], set(SIGNED))
    _agree("kinds of sealed values", found["kind"], set(SEALED))
    rows = [f"| `{each}` | {ALGORITHMS[each]} | {', '.join(sorted(used[each]))} |" for each in sorted(used)]
    return [
        *rows,
        *_table("Keyed digests", "purpose", "what they bind or hide", PURPOSES),
        *_table("Signing keys", "purpose", "what they sign", SIGNED),
        *_table("Sealed values", "kind", "what it is", SEALED),
    ]


def _table(title: str, left: str, right: str, told: Mapping[str, str]) -> list[str]:
    return [f"\n## {title}\n\n| {left} | {right} |\n|---|---|", *(f"| `{a}` | {b} |" for a, b in sorted(told.items()))]


def _agree(what: str, used: set[str], told: set[str]) -> None:
    if used != told:
        missing, over = sorted(used - told), sorted(told - used)
        raise InventoryError(f"{what}: describe {missing or 'nothing more'}, and leave out {over or 'nothing'}")


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        root = Path(str(files(package)))
        for path in sorted(root.rglob("*.py")):
            name = f"{package}/{path.relative_to(root).as_posix()}"
            text = path.read_text(encoding="utf-8")
            if not name.startswith(NOT_SHIPPED) and name != "hub/cli/inventory.py" and WORTH_PARSING.search(text):
                yield name, ast.parse(text, name)


def _primitives(module: ast.Module) -> Iterator[str]:
    """What a module uses of the libraries, under the name that the inventory describes it by."""
    known: dict[str, str] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            known |= {each.asname or each.name.split(".")[0]: each.name for each in node.names if _counts(each.name)}
        elif isinstance(node, ast.ImportFrom) and node.module and _counts(node.module):
            for each in node.names:
                whole = f"{node.module}.{each.name}"
                known[each.asname or each.name] = whole
                if whole not in NO_PRIMITIVE:
                    yield _described(whole)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in SYSTEM:
            yield ast.unparse(node)
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
            whole = f"{known[node.value.id]}.{node.attr}"
            if whole not in NO_PRIMITIVE and node.value.id == known[node.value.id]:
                yield _described(whole)


def _counts(module: str) -> bool:
    return module.split(".")[0] in LIBRARIES


def _described(name: str) -> str:
    """The name itself, or the one above it that stands for it."""
    above = name
    while above not in ALGORITHMS and "." in above:
        above = above.rpartition(".")[0]
    return above if above in ALGORITHMS else name


def _purposes(module: ast.Module) -> Iterator[tuple[str, str]]:
    constants = {
        target.id: node.value.value
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    def text(node: ast.expr) -> str | None:
        value = node.value if isinstance(node, ast.Constant) else None
        value = constants.get(node.id) if isinstance(node, ast.Name) else value
        return value if isinstance(value, str) else None

    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called == "mac" and len(node.args) == 2 and (told := text(node.args[0])) is not None:
                yield "mac", told
            if called == "open_signing_key" and (told := text(node.args[2])) is not None:
                yield "sign", told
        if isinstance(node, ast.Dict) and node.keys and isinstance(node.keys[0], ast.Constant):
            told = text(node.values[0])
            if node.keys[0].value == "kind" and told is not None and _is_identity(node):
                yield "kind", told


def _is_identity(node: ast.Dict) -> bool:
    """Whether a dictionary is what something sealed is bound to: made of texts alone."""
    return len(node.keys) > 1 or isinstance(node.values[0], ast.Constant)
