"""The table of one number, which moves when a right ends."""

from __future__ import annotations

from sqlalchemy import Select, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.database import Base, insert_into


class EpochRow(Base):
    """How often a right was taken away."""

    __tablename__ = "access_epoch"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int]


def epoch() -> Select[tuple[int]]:
    """The statement that reads the number; there is none before a right was first taken away."""
    return select(EpochRow.number)


def bump(session: Session) -> None:
    """Moves the number, in the transaction that takes the right away."""
    made = insert_into(session, EpochRow).values(id=1, number=1)
    session.execute(made.on_conflict_do_update(index_elements=["id"], set_={"number": EpochRow.number + 1}))
