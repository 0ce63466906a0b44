"""The functions of the language, by subject; importing this registers them all."""

from hub.mappings.expressions.functions import casts, choices, moments, numbers, texts, times
from hub.mappings.expressions.functions.registry import REGISTRY, Call, Check, Emitted, Function, Registry

__all__ = [
    "REGISTRY",
    "Call",
    "Check",
    "Emitted",
    "Function",
    "Registry",
    "casts",
    "choices",
    "moments",
    "numbers",
    "texts",
    "times",
]
