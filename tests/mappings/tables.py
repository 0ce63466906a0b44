"""The small tables that the shipped mappings run on, as a connector describes them, and what their models take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files

from hub.mappings.check import compile_mapping
from hub.mappings.document import read_document
from hub.mappings.types import Compiled
from hub.models import InputField, ModelVersion, Signature, Task, Way
from hub.sdk import Entity, Field, FieldType, Mode

MAPPINGS = ("lab_latest", "material_demand", "patient_risk")

TEXT, INTEGER, REAL, DECIMAL = FieldType.TEXT, FieldType.INTEGER, FieldType.REAL, FieldType.DECIMAL
DATE, TIMESTAMP, INSTANT = FieldType.DATE, FieldType.TIMESTAMP, FieldType.INSTANT
IN_PLACE = frozenset({Mode.UPDATE})

PATIENT = Entity(
    "PATIENT",
    (
        Field("PATNR", TEXT, nullable=False, length=8),
        Field("SEX", TEXT, length=1),
        Field("BIRTH_D", DATE),
        Field("CLINIC", TEXT, length=4),
        Field("LAST_UPD", TIMESTAMP),
        Field("RISK_SCORE", INTEGER, writable=True),
        Field("RISK_BAND", TEXT, writable=True, length=8),
        Field("RISK_WHY", TEXT, writable=True, length=254),
        Field("RISK_AT", TIMESTAMP, writable=True),
    ),
    key=("PATNR",),
    changed_by=("LAST_UPD",),
    modes=IN_PLACE,
)
FNA_RESULT = Entity(
    "FNA_RESULT",
    (
        Field("RESULT_NO", INTEGER, nullable=False),
        Field("PATNR", TEXT, length=8),
        Field("STATUS", TEXT, length=1),
        Field("TAKEN_AT", TIMESTAMP),
        *(Field(name, REAL) for name in ("RADIUS_M", "TEXTURE_M", "PERIM_M", "AREA_M")),
        *(Field(name, TEXT, length=12) for name in ("SMOOTH_M", "COMPACT_M", "CONCAV_M", "CONCPT_M", "SYMM_M")),
        *(Field(name, REAL) for name in ("RADIUS_W", "TEXTURE_W", "AREA_W")),
        Field("CONCPT_W", TEXT, length=12),
    ),
    key=("RESULT_NO",),
    changed_by=("TAKEN_AT",),
)
MATERIAL_PLANT = Entity(
    "MATERIAL_PLANT",
    (
        Field("MATNR", TEXT, nullable=False, length=18),
        Field("WERKS", TEXT, nullable=False, length=4),
        Field("PLIFZ", INTEGER, title="Planned delivery time in days"),
        Field("LVORM", TEXT, length=1, title="Flagged for deletion"),
        Field("LAEDA", TIMESTAMP, title="Last change"),
        Field("FC_QTY", DECIMAL, writable=True, precision=13, scale=3),
        Field("FC_CLASS", TEXT, writable=True, length=1, values=("A", "B", "C", "N")),
        Field("FC_WHY", TEXT, writable=True, length=60),
        Field("FC_AT", TIMESTAMP, writable=True),
        Field("FC_MODEL", INTEGER, writable=True),
    ),
    key=("MATNR", "WERKS"),
    changed_by=("LAEDA",),
    modes=IN_PLACE,
)
MATERIAL = Entity(
    "MATERIAL",
    (
        Field("MATNR", TEXT, nullable=False, length=18),
        Field("MTART", TEXT, length=4),
        Field("PRICE", DECIMAL, precision=11, scale=2),
    ),
    key=("MATNR",),
)
MOVEMENT = Entity(
    "MOVEMENT",
    (
        Field("MBLNR", TEXT, nullable=False, length=10),
        Field("ZEILE", INTEGER, nullable=False),
        Field("MATNR", TEXT, length=18),
        Field("WERKS", TEXT, length=4),
        Field("BWART", TEXT, length=3),
        Field("MENGE", DECIMAL, precision=13, scale=3),
        Field("BUDAT", DATE),
    ),
    key=("MBLNR", "ZEILE"),
)
STAY = Entity(
    "STAY",
    (
        Field("STAY_ID", INTEGER, nullable=False),
        Field("PATIENT_ID", TEXT, nullable=False, length=12),
        Field("WARD", TEXT, length=6),
        Field("ADMITTED", INSTANT),
        Field("DISCHARGED", INSTANT),
    ),
    key=("STAY_ID",),
)
LAB_VALUE = Entity(
    "LAB_VALUE",
    (
        Field("LAB_ID", INTEGER, nullable=False),
        Field("PATIENT_ID", TEXT, length=12),
        Field("ANALYTE", TEXT, length=8),
        Field("RESULT", REAL),
        Field("UNIT", TEXT, length=8),
        Field("STATUS", TEXT, length=8),
        Field("TAKEN_AT", INSTANT),
    ),
    key=("LAB_ID",),
)
KIDNEY_RISK = Entity(
    "KIDNEY_RISK",
    (
        Field("STAY_ID", INTEGER, nullable=False, writable=True),
        Field("RISK", DECIMAL, writable=True, precision=4, scale=3),
        Field("LEVEL", INTEGER, writable=True),
        Field("WHY", TEXT, writable=True, length=80),
        Field("NOTE", TEXT, writable=True, length=80),
        Field("SCORED_AT", INSTANT, writable=True),
    ),
    key=("STAY_ID",),
    modes=frozenset({Mode.UPDATE, Mode.UPSERT}),
)
SYSTEMS: Mapping[str, Sequence[Entity]] = {
    "clinic": (PATIENT, FNA_RESULT),
    "erp": (MATERIAL_PLANT, MATERIAL, MOVEMENT),
    "lis": (STAY, LAB_VALUE, KIDNEY_RISK),
}


def _inputs(**kinds: FieldType) -> tuple[InputField, ...]:
    return tuple(InputField(name, kind, nullable=False) for name, kind in kinds.items())


_MEASURES = (
    *("radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave_points"),
    *("symmetry", "radius_worst", "texture_worst", "area_worst", "concave_points_worst"),
)
SIGNATURES: Mapping[str, Signature] = {
    "fna_malignancy": Signature(Task.BINARY, _inputs(**dict.fromkeys(_MEASURES, REAL)), (0, 1), 1),
    "material_demand": Signature(
        Task.REGRESSION,
        (
            InputField("kind", TEXT, nullable=False, categories=("FERT", "HALB", "OTHER", "ROH"), closed=False),
            *_inputs(price=REAL, lead_days=INTEGER, monthly_use=REAL, recent_use=REAL),
            *_inputs(active_months=INTEGER, largest_issue=REAL, idle_days=INTEGER),
        ),
    ),
    "kidney_risk": Signature(
        Task.BINARY,
        (
            *_inputs(creatinine=REAL, value_age_hours=INTEGER, stay_days=INTEGER, ward=TEXT),
            InputField("rise", REAL, nullable=True),
            InputField("potassium", REAL, nullable=True),
        ),
        (False, True),
        True,
    ),
}


def model(name: str, _use: str) -> ModelVersion:
    """The first version of each model."""
    return ModelVersion(
        name=name,
        number=1,
        digest="0" * 64,
        signature=SIGNATURES[name],
        runtime="sklearn",
        way=Way.ONNX,
        largest_difference=0.0,
        rows_compared=1000,
        tolerance=1e-6,
        metrics={},
        owner="data-science",
        note="",
        pool="default",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        aliases=("champion",),
    )


def shipped(name: str) -> Compiled:
    """A mapping that ships, compiled against the tables here."""
    text = (files("mappings") / name / "mapping.yaml").read_text("utf-8")
    return compile_mapping(read_document(text), SYSTEMS.__getitem__, model)
