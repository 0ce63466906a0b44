"""The expression language of mappings: SQL scalar expressions, parsed once to a closed, typed tree.

Owns the text of every feature, condition, output and aggregate, and what each means. Refuses anything but scalar
expressions over known fields with known functions, and any result that is not exact where it claims to be.
"""

from hub.mappings.expressions.aggregates import (
    Aggregate,
    First,
    Fold,
    Folded,
    OrderKey,
    compile_aggregate,
    compile_order,
)
from hub.mappings.expressions.checking import compile_expression
from hub.mappings.expressions.evaluation import Prepared, chosen, evaluate, prepare
from hub.mappings.expressions.functions import REGISTRY, Function
from hub.mappings.expressions.pushdown import to_filter
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
    "Aggregate",
    "Evaluated",
    "Expression",
    "ExpressionError",
    "First",
    "Fold",
    "Folded",
    "Function",
    "OrderKey",
    "Prepared",
    "Pushdown",
    "ValueType",
    "chosen",
    "compile_aggregate",
    "compile_expression",
    "compile_order",
    "evaluate",
    "prepare",
    "to_filter",
]
