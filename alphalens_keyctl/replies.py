"""The table of what the HTTP API answered. It has a file of its own because every command loads the other tables, and
SQLModel takes milliseconds to make a table."""

from datetime import datetime
from typing import Final

from sqlalchemy import BigInteger, Column, LargeBinary, Text
from sqlmodel import Field, SQLModel

from alphalens_keyctl.columns import Instant


class ApiReply(SQLModel, table=True):
    """What the HTTP API answered to a request with an `Idempotency-Key`, without the raw key. `request` is the digest
    of the request; without `status` the request is under way."""

    __tablename__ = "api_reply"

    caller: str = Field(sa_column=Column(Text, primary_key=True))
    idempotency_key: str = Field(sa_column=Column(Text, primary_key=True))
    at: datetime = Field(sa_type=Instant)
    request: bytes = Field(sa_type=LargeBinary)
    status: int | None = Field(default=None, sa_type=BigInteger)
    answer: str | None = Field(default=None, sa_type=Text)


reply_table: Final = ApiReply.__table__  # type: ignore[attr-defined]  # SQLModel sets it and does not declare it
