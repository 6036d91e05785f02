"""The floor of a poll: a FastAPI route with one `SELECT 1`, served as ours is. `DATABASE` names the PostgreSQL."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from psycopg_pool import AsyncConnectionPool

pool = AsyncConnectionPool(os.environ["DATABASE"], open=False, kwargs={"autocommit": True}, max_size=10)


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with pool:
        yield


app = FastAPI(lifespan=_lifespan)


@app.get("/one")
async def one() -> dict[str, int]:
    """Answer what the database answers."""
    async with pool.connection() as connection:
        [value] = await (await connection.execute("SELECT 1")).fetchone() or [0]
    return {"one": value}
