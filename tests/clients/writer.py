"""Writes rows as an application does, on whatever server lets it, and says which were acknowledged, and where.

usage: writer.py LIBRARY MODE NAME CONNINFO, LIBRARY one of psycopg2, psycopg, asyncpg; CONNINFO a URL.
MODE is how it keeps its connections (each, kept, pool), or, for psycopg2, what it does on one that it keeps: see SHAPES.
"""
import asyncio
import sys
import time

library, mode, name, url = sys.argv[1:]
INSERT = "INSERT INTO moves (client, seq) VALUES ({0}, {1}) RETURNING inet_server_port()"


def acknowledged(seq, port):
    print("ack", seq, port, flush=True)


def refused(error):
    print("refused", type(error).__name__, str(error).split("\n")[0], flush=True)
    time.sleep(0.02)


def insert(connection, seq, before_commit=lambda: None):
    with connection.cursor() as cursor:
        cursor.execute(INSERT.format("%s", "%s"), (name, seq))
        port = cursor.fetchone()[0]
    before_commit()
    connection.commit()
    acknowledged(seq, port)


def idle(connection, seq):
    """A transaction that stays open."""
    insert(connection, seq, lambda: time.sleep(0.4))


def long(connection, seq):
    """A statement that takes its time."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_sleep(0.4)")
    insert(connection, seq)


class Slowly:
    """Lines of a COPY, one after the other."""

    def __init__(self, seqs):
        self.lines = (f"{name}\t{seq}\n" for seq in seqs)

    def read(self, _size):
        time.sleep(0.05)
        return next(self.lines, "")


def copy(connection, seq):
    """COPY from the client."""
    seqs = range(seq * 8, seq * 8 + 8)
    with connection.cursor() as cursor:
        cursor.copy_expert("COPY moves (client, seq) FROM STDIN", Slowly(seqs))
        cursor.execute("SELECT inet_server_port()")
        port = cursor.fetchone()[0]
    connection.commit()
    for seq in seqs:
        acknowledged(seq, port)


def cursor(connection, seq):
    """A cursor WITH HOLD, read while other transactions begin and end."""
    held = connection.cursor(f"held{seq}", withhold=True)
    held.execute("SELECT generate_series(1, 5)")
    connection.commit()
    for place in range(5):
        held.fetchone()
        insert(connection, seq * 5 + place)
        time.sleep(0.05)
    held.close()
    connection.commit()


def listen(connection, seq):
    """What was acknowledged is heard."""
    with connection.cursor() as cursor:
        cursor.execute("LISTEN moves")
        cursor.execute("NOTIFY moves")
    insert(connection, seq)
    connection.poll()
    if not connection.notifies:
        raise RuntimeError("not heard")
    connection.notifies.clear()


def advisory(connection, seq):
    """One session of all has the lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(11)")
    try:
        insert(connection, seq)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock_all()")
        connection.commit()


SHAPES = {of.__name__: of for of in (idle, long, copy, cursor, listen, advisory)}


def blocking(connect):
    connection, seq = None, 0
    while True:
        seq += 1
        try:
            connection = connection or connect(url)
            SHAPES.get(mode, insert)(connection, seq)
            if mode == "each":
                connection.close()
                connection = None
        except Exception as error:
            refused(error)
            if connection is not None:
                connection.close()
            connection = None
        time.sleep(0.1)


def pooled():
    import psycopg_pool

    seq = 0
    with psycopg_pool.ConnectionPool(url, min_size=2, max_size=3, check=None) as pool:
        while True:
            seq += 1
            try:
                with pool.connection(timeout=5) as connection:
                    insert(connection, seq)
            except Exception as error:
                refused(error)
            time.sleep(0.1)


async def asynchronous():
    import asyncpg

    connection, pool, seq = None, None, 0
    sql = INSERT.format("$1", "$2")
    while True:
        seq += 1
        try:
            if mode == "pool":
                pool = pool or await asyncpg.create_pool(url, min_size=1, max_size=3)
                acknowledged(seq, await pool.fetchval(sql, name, seq))
            else:
                connection = connection or await asyncpg.connect(url)
                acknowledged(seq, await connection.fetchval(sql, name, seq))
                if mode == "each":
                    await connection.close()
                    connection = None
        except Exception as error:
            refused(error)
            if connection is not None:
                connection.terminate()
            connection = None
        await asyncio.sleep(0.1)


if library == "asyncpg":
    asyncio.run(asynchronous())
elif mode == "pool":
    pooled()
else:
    blocking(__import__(library).connect)
