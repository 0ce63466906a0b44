"""The bytes of a model: telling what a given file is without parsing it, and one container for what is stored."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from typing import Final, Literal

from hub.models.types import ArtefactError, ModelRefusedError

MAX_BYTES: Final = 512 * 1024 * 1024
MAX_ENTRIES: Final = 100_000

_WAY_OUT = (
    "load it in the process that trusts it and call hub.models.register(name, estimator, sample, owner=…), "
    "or hand in an .onnx or .skops file"
)
_EXPORT = "export it to ONNX and register the .onnx file"
_COMPRESSED = (
    b"\x78\x01",
    b"\x78\x5e",
    b"\x78\x9c",
    b"\x78\xda",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ",
    b"]\x00\x00",
    b"\x04\x22\x4d\x18",
)
_TEXT_PICKLE = re.compile(rb"^[(\]}]*(c[\w.]+\n[\w.]+\n|[ldt(]p\d+\n|i[\w.]+\n)")


def digest_of(content: bytes) -> str:
    """SHA-256 in hex."""
    return sha256(content).hexdigest()


def sniff(content: bytes) -> Literal["onnx", "skops"]:
    """What kind of model file this is, by its content, never by its name. ModelRefusedError for anything else."""
    if len(content) > MAX_BYTES:
        raise ModelRefusedError(f"the file is {len(content)} bytes; a model may have at most {MAX_BYTES}")
    if content[:1] == b"\x80" or _TEXT_PICKLE.match(content[:512]):
        raise ModelRefusedError(f"the file is a pickle, which runs code when it is read: {_WAY_OUT}")
    if content.startswith(_COMPRESSED):
        raise ModelRefusedError(
            f"the file is compressed as joblib writes pickles, which run code when read: {_WAY_OUT}"
        )
    if content.startswith(b"PK"):
        return _sniff_zip(content)
    if content.startswith(b"\x89HDF"):
        raise ModelRefusedError(f"the file is HDF5, as Keras writes it: {_EXPORT}")
    # An ONNX file is a protocol buffer whose first field is ir_version, a small varint.
    if content[:1] == b"\x08" and len(content) > 16:
        return "onnx"
    raise ModelRefusedError("the file is no model that the hub reads: hand in an .onnx or .skops file")


def _sniff_zip(content: bytes) -> Literal["skops"]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile:
        raise ModelRefusedError("the file is a damaged zip archive: hand in an .onnx or .skops file") from None
    names = {each.filename for each in entries}
    if any(name.endswith((".pkl", ".pickle", ".joblib")) for name in names):
        raise ModelRefusedError(f"the file is an archive of pickles, which run code when read: {_WAY_OUT}")
    if "schema.json" not in names:
        raise ModelRefusedError("the file is a zip archive but no skops model: hand in an .onnx or .skops file")
    if len(entries) > MAX_ENTRIES or sum(each.file_size for each in entries) > MAX_BYTES:
        raise ModelRefusedError(f"the file unpacks to more than {MAX_BYTES} bytes or {MAX_ENTRIES} entries")
    return "skops"


def pack(parts: Mapping[str, bytes]) -> bytes:
    """One container of named parts; equal parts give equal bytes."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(parts):
            archive.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), parts[name])
    return target.getvalue()


def unpack(content: bytes, digest: str) -> dict[str, bytes]:
    """The parts of a container, after its digest is found right and before anything in it is parsed."""
    if digest_of(content) != digest:
        raise ArtefactError("the stored model is not the one that was registered: its digest differs")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
