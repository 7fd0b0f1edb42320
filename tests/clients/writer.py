"""Writes rows as an application does, on whatever server lets it, and says which were acknowledged, and where.

usage: writer.py LIBRARY each|kept|pool NAME CONNINFO, LIBRARY one of psycopg2, psycopg, asyncpg; CONNINFO a URL.
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


def insert(connection, seq):
    with connection.cursor() as cursor:
        cursor.execute(INSERT.format("%s", "%s"), (name, seq))
        port = cursor.fetchone()[0]
    connection.commit()
    acknowledged(seq, port)


def blocking(connect):
    connection, seq = None, 0
    while True:
        seq += 1
        try:
            connection = connection or connect(url)
            insert(connection, seq)
            if mode == "each":
                connection.close()
                connection = None
        except Exception as error:
            refused(error)
            if connection is not None:
                connection.close()
            connection = None
        time.sleep(0.01)


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
            time.sleep(0.01)


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
        await asyncio.sleep(0.01)


if library == "asyncpg":
    asyncio.run(asynchronous())
elif mode == "pool":
    pooled()
else:
    blocking(__import__(library).connect)
