"""What is made of the sealed log for others: events in the forms of other tools, and reports about a mapping."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hub.audit.forms.fhir import to_fhir
from hub.audit.forms.ocsf import to_ocsf
from hub.audit.types import Recorded

FORMS: Mapping[str, Callable[[int, Recorded], dict[str, Any]]] = {"ocsf": to_ocsf, "fhir": to_fhir}
"""By name, what an event at a place of the log becomes."""
