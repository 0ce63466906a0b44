"""The expression language of mappings: SQL scalar expressions, parsed once to a closed, typed tree.

Owns the text of every feature, condition, output and aggregate, and what each means. Refuses anything but scalar
expressions over known fields with known functions, and any result that is not exact where it claims to be.
"""

from hub.mappings.expressions.checking import compile_expression
from hub.mappings.expressions.evaluation import Prepared, evaluate, prepare
from hub.mappings.expressions.functions import REGISTRY, Function
from hub.mappings.expressions.types import (
    NOW,
    REASONS,
    Evaluated,
    Expression,
    ExpressionError,
    Pushdown,
    ValueType,
)

FUNCTIONS = REGISTRY.functions
"""Every function of the language by name and alias."""

__all__ = [
    "FUNCTIONS",
    "NOW",
    "REASONS",
    "Evaluated",
    "Expression",
    "ExpressionError",
    "Function",
    "Prepared",
    "Pushdown",
    "ValueType",
    "compile_expression",
    "evaluate",
    "prepare",
]
