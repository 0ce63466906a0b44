"""The two real data sets as tables of a customer: how they are loaded, mapped, modelled, edited and read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import sqlalchemy as sa
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sqlalchemy.dialects import mysql

PROBABILITY, SCORE, BAND, SCORED_AT = "Score Raw", "Score", "Score Band", "Scored At"
MOVED = "moved_at"
_BANDS = "case when probability >= 0.6 then 'High' when probability >= 0.3 then 'Medium' else 'Low' end"


@dataclass(frozen=True)
class Case:
    """One data set: its table, its mapping, and the same features computed here without the hub."""

    mapping: str
    table: str
    key: str
    file: str
    outcome: str
    features: dict[str, str]
    """Expressions of the mapping."""
    moves: bool
    """Whether the table has a stamp that moves with every change, by whomever."""
    edit: str
    """The number column that a colleague edits."""

    def document(self, connection: str) -> str:
        """The mapping, in YAML."""
        lines = [f"  {name}: {_quoted(is_)}" for name, is_ in self.features.items()]
        incremental = [f"  changed_by: {MOVED}"] if self.moves else []
        return "\n".join(
            [
                "format: 1",
                f"mapping: {connection}_{self.mapping}",
                f"title: {self.mapping}",
                "owner: revenue-operations",
                "purpose: Show who needs a call",
                "read:",
                f"  connection: {connection}",
                f"  entity: {self.table}",
                *incremental,
                "features:",
                *lines,
                f"model: {{ name: {self.mapping} }}",
                "decide:",
                "  raw: probability",
                '  score: "round(100 * probability)"',
                f'  band: "{_BANDS}"',
                "write:",
                "  mode: update",
                f"  set: {{ {PROBABILITY}: raw, {SCORE}: score, {BAND}: band }}",
                f"  with: {{ {SCORED_AT}: scored_at }}",
            ]
        )

    def rows(self, folder: Path) -> pl.DataFrame:
        """The file as it is."""
        return pl.read_csv(folder / self.file, infer_schema_length=None)

    def inputs(self, rows: pl.DataFrame) -> pl.DataFrame:
        """What the model is shown of the rows, computed without the hub."""
        return telco_inputs(rows) if self.mapping == "churn" else lead_inputs(rows)

    def fit(self, rows: pl.DataFrame) -> Pipeline:
        """A model of the outcome: boosted trees for churn, logistic regression for leads."""
        inputs, truth = self.inputs(rows), rows[self.outcome].cast(pl.String).is_in(["Yes", "1"]).cast(pl.Int64)
        texts = [name for name, dtype in inputs.schema.items() if dtype == pl.String]
        numbers = [name for name in inputs.columns if name not in texts]
        encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        last = (
            HistGradientBoostingClassifier(max_iter=60, random_state=0)
            if self.mapping == "churn"
            else LogisticRegression(max_iter=2000)
        )
        split = ColumnTransformer([("numbers", StandardScaler(), numbers), ("texts", encode, texts)])
        return make_pipeline(split, last).fit(inputs.to_pandas(), truth.to_numpy())


def telco_inputs(rows: pl.DataFrame) -> pl.DataFrame:
    """The churn features from the rows of the file."""
    total = pl.col("TotalCharges").str.strip_chars().cast(pl.Float64, strict=False)
    extras = ("OnlineSecurity", "OnlineBackup", "DeviceProtection", "TechSupport", "StreamingTV", "StreamingMovies")
    return rows.select(
        gender=pl.col("gender").str.to_lowercase(),
        senior=pl.col("SeniorCitizen"),
        family=pl.when((pl.col("Partner") == "Yes") | (pl.col("Dependents") == "Yes"))
        .then(1)
        .otherwise(0)
        .cast(pl.Int64),
        tenure=pl.col("tenure"),
        phone=pl.col("PhoneService"),
        lines=pl.col("MultipleLines"),
        internet=pl.col("InternetService"),
        security=pl.col("OnlineSecurity"),
        backup=pl.col("OnlineBackup"),
        protection=pl.col("DeviceProtection"),
        support=pl.col("TechSupport"),
        tv=pl.col("StreamingTV"),
        movies=pl.col("StreamingMovies"),
        extras=pl.sum_horizontal((pl.col(each) == "Yes").cast(pl.Int64) for each in extras),
        contract=pl.col("Contract"),
        paperless=pl.col("PaperlessBilling"),
        payment=pl.col("PaymentMethod"),
        automatic=pl.col("PaymentMethod").str.contains("automatic").cast(pl.Int64),
        monthly=pl.col("MonthlyCharges").cast(pl.Float64),
        total=total,
        average=total / pl.when(pl.col("tenure") > 0).then(pl.col("tenure")),
    )


def lead_inputs(rows: pl.DataFrame) -> pl.DataFrame:
    """The lead features from the rows of the file."""

    def known(name: str) -> pl.Expr:
        return pl.col(name).replace("Select", None).fill_null("Unknown")

    visits, views = pl.col("TotalVisits").fill_null(0), pl.col("Page Views Per Visit").fill_null(0.0)
    return rows.select(
        origin=pl.col("Lead Origin"),
        source=known("Lead Source").str.to_lowercase(),
        no_mail=(pl.col("Do Not Email") == "Yes").cast(pl.Int64),
        no_call=(pl.col("Do Not Call") == "Yes").cast(pl.Int64),
        visits=pl.min_horizontal(visits, pl.lit(50)),
        minutes=pl.col("Total Time Spent on Website") / 60,
        views=views,
        pages=visits * views,
        last=known("Last Activity"),
        abroad=(pl.col("Country").fill_null("India") != "India").cast(pl.Int64),
        specialization=known("Specialization"),
        heard=known("How did you hear about X Education"),
        occupation=known("What is your current occupation"),
        matters=known("What matters most to you in choosing a course"),
        city=known("City"),
        notable=pl.col("Last Notable Activity"),
        copy=(pl.col("A free copy of Mastering The Interview") == "Yes").cast(pl.Int64),
        searched=pl.when(pl.col("Search") == "Yes").then(pl.lit("y")).otherwise(pl.lit("n")),
    )


def _known(name: str) -> str:
    return f"coalesce(nullif(\"{name}\", 'Select'), 'Unknown')"


def _flag(name: str) -> str:
    return f"case when \"{name}\" = 'Yes' then 1 else 0 end"


_EXTRAS = ("OnlineSecurity", "OnlineBackup", "DeviceProtection", "TechSupport", "StreamingTV", "StreamingMovies")

CHURN = Case(
    mapping="churn",
    table="Customers",
    key="customerID",
    file="telco_churn/Telco-Customer-Churn.csv",
    outcome="Churn",
    moves=True,
    edit="tenure",
    features={
        "gender": "lower(gender)",
        "senior": "SeniorCitizen",
        "family": "case when Partner = 'Yes' or Dependents = 'Yes' then 1 else 0 end",
        "tenure": "tenure",
        "phone": "PhoneService",
        "lines": "MultipleLines",
        "internet": "InternetService",
        "security": "OnlineSecurity",
        "backup": "OnlineBackup",
        "protection": "DeviceProtection",
        "support": "TechSupport",
        "tv": "StreamingTV",
        "movies": "StreamingMovies",
        "extras": " + ".join(f"case when {name} = 'Yes' then 1 else 0 end" for name in _EXTRAS),
        "contract": "Contract",
        "paperless": "PaperlessBilling",
        "payment": "PaymentMethod",
        "automatic": "case when PaymentMethod like '%automatic%' then 1 else 0 end",
        "monthly": "MonthlyCharges",
        "total": "try_cast(trim(TotalCharges) as real)",
        "average": "try_cast(trim(TotalCharges) as real) / nullif(tenure, 0)",
    },
)

LEADS = Case(
    mapping="leads",
    table="Leads",
    key="Prospect ID",
    file="lead_scoring/Lead Scoring.csv",
    outcome="Converted",
    moves=False,
    edit="Total Time Spent on Website",
    features={
        "origin": '"Lead Origin"',
        "source": f"lower({_known('Lead Source')})",
        "no_mail": _flag("Do Not Email"),
        "no_call": _flag("Do Not Call"),
        "visits": "least(coalesce(TotalVisits, 0), 50)",
        "minutes": '"Total Time Spent on Website" / 60',
        "views": 'coalesce("Page Views Per Visit", 0)',
        "pages": 'coalesce(TotalVisits, 0) * coalesce("Page Views Per Visit", 0)',
        "last": _known("Last Activity"),
        "abroad": "case when coalesce(Country, 'India') <> 'India' then 1 else 0 end",
        "specialization": _known("Specialization"),
        "heard": _known("How did you hear about X Education"),
        "occupation": _known("What is your current occupation"),
        "matters": _known("What matters most to you in choosing a course"),
        "city": _known("City"),
        "notable": '"Last Notable Activity"',
        "copy": _flag("A free copy of Mastering The Interview"),
        "searched": "case when Search = 'Yes' then 'y' else 'n' end",
    },
)


def load(engine: sa.Engine, case: Case, rows: pl.DataFrame) -> sa.Table:
    """Makes the table as a customer has it, score columns empty, with the rows of the file."""
    table = sa.Table(case.table, sa.MetaData(), *_columns(engine, case, rows))
    with engine.begin() as connection:
        table.create(connection)
        if case.moves and engine.dialect.name == "postgresql":
            _move_by_trigger(connection, case.table)
        connection.execute(table.insert(), rows.to_dicts())
    return table


def _columns(engine: sa.Engine, case: Case, rows: pl.DataFrame) -> list[sa.Column[object]]:
    def kind(name: str, dtype: pl.DataType) -> sa.types.TypeEngine[object]:
        if name == "Prospect ID":
            return sa.Uuid(as_uuid=False) if engine.dialect.name == "postgresql" else sa.CHAR(36)
        if name == "MonthlyCharges":
            return sa.Numeric(8, 2)
        if dtype == pl.Int64:
            return sa.Integer()
        return sa.Double() if dtype == pl.Float64 else sa.String(100)

    made: list[sa.Column[object]] = [
        sa.Column(name, kind(name, dtype), primary_key=name == case.key) for name, dtype in rows.schema.items()
    ]
    moment = mysql.DATETIME(fsp=6) if engine.dialect.name == "mysql" else sa.DateTime(timezone=True)
    if case.moves:
        on_update = " on update current_timestamp(6)" if engine.dialect.name == "mysql" else ""
        made.append(
            sa.Column(MOVED, moment, server_default=sa.text(f"current_timestamp(6){on_update}"), nullable=False)
        )
    return [
        *made,
        sa.Column(PROBABILITY, sa.Double()),
        sa.Column(SCORE, sa.Integer()),
        sa.Column(BAND, sa.String(10)),
        sa.Column(SCORED_AT, moment),
    ]


def _move_by_trigger(connection: sa.Connection, table: str) -> None:
    connection.execute(
        sa.text(
            f"create function moved() returns trigger language plpgsql as "
            f"$$ begin new.{MOVED} := clock_timestamp(); return new; end $$"
        )
    )
    connection.execute(
        sa.text(f'create trigger moved before update on "{table}" for each row execute function moved()')
    )


def stored(engine: sa.Engine, table: sa.Table) -> pl.DataFrame:
    """The whole table in key order; on PostgreSQL with `xmin`, which any write of a row would change."""
    extra = [sa.literal_column("xmin::text").label("xmin")] if engine.dialect.name == "postgresql" else []
    with engine.connect() as connection:
        found = connection.execute(sa.select(table, *extra))
        rows = [dict(row) for row in found.mappings()]
    return pl.DataFrame(rows, infer_schema_length=None).sort(table.primary_key.columns.keys()[0])


def edit(engine: sa.Engine, case: Case, table: sa.Table, keys: Sequence[str]) -> None:
    """What a colleague does to some records by hand."""
    column = table.c[case.edit]
    with engine.begin() as connection:
        connection.execute(sa.update(table).where(table.c[case.key].in_(keys)).values({column: column * 3 + 7}))


def expected(case: Case, model: Pipeline, rows: pl.DataFrame) -> np.ndarray:
    """What scikit-learn says of the rows, called directly."""
    found: np.ndarray = model.predict_proba(case.inputs(rows).to_pandas())[:, 1]
    return found


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
