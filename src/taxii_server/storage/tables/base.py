"""What every table is made of."""

from __future__ import annotations

from sqlalchemy import (
    DateTime,
    MetaData,
    Text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    },
)

instant = DateTime(timezone=True)
# Keys compare by octets: faster, and no system upgrade can change their order under an index.
key = Text(collation="C")
