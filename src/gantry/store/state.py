"""The daemon's memory: records as JSON in SQLite (write-ahead log), one writer at a time."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from gantry import faults
from gantry.errors import Conflict, Internal
from gantry.ports import Table

_encoder = msgspec.json.Encoder()


class SQLiteState:
    """Implements `ports.State`. A record's table, key and unique value are columns, the rest is its JSON.

    `update` commits with `synchronous=FULL`: what has returned survives a power cut.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._write = threading.Lock()
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._all_lock = threading.Lock()
        self._decoders: dict[str, msgspec.json.Decoder[Any]] = {}
        try:
            connection = self._connection()
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS records"
                " (kind TEXT NOT NULL, key TEXT NOT NULL, name TEXT, json BLOB NOT NULL,"
                " PRIMARY KEY (kind, key)) WITHOUT ROWID"
            )
            connection.execute("CREATE UNIQUE INDEX IF NOT EXISTS names ON records (kind, name) WHERE name IS NOT NULL")
        except sqlite3.Error as error:
            raise Internal(f"state {path}: {error}") from error
        path.chmod(0o600)

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._path, isolation_level=None, timeout=30, check_same_thread=False)
            connection.execute("PRAGMA synchronous=FULL")
            self._local.connection = connection
            with self._all_lock:
                self._all.append(connection)
        return connection

    @contextmanager
    def view(self) -> Iterator["SQLiteTransaction"]:
        """A consistent read; nothing may be written inside."""
        connection = self._connection()
        connection.execute("BEGIN")
        try:
            yield SQLiteTransaction(connection, self._decoders)
        finally:
            connection.execute("ROLLBACK")

    @contextmanager
    def update(self) -> Iterator["SQLiteTransaction"]:
        """A read-write transaction: all of it is durable after the block, or none of it happened."""
        with self._write:
            connection = self._connection()
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield SQLiteTransaction(connection, self._decoders)
                    faults.point("state.written")
                    connection.execute("COMMIT")
                    faults.point("state.committed")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                words = "no space left on device" if "full" in str(error) else str(error)
                raise Internal(f"state {self._path}: {words}") from error

    def close(self) -> None:
        with self._all_lock:
            for connection in self._all:
                connection.close()
            self._all.clear()


class SQLiteTransaction:
    """Implements `ports.Transaction` on one connection."""

    def __init__(self, connection: sqlite3.Connection, decoders: dict[str, msgspec.json.Decoder[Any]]) -> None:
        self._connection = connection
        self._decoders = decoders

    def _decode(self, table: Table, data: bytes) -> Any:
        decoder = self._decoders.get(table.name)
        if decoder is None:
            decoder = self._decoders[table.name] = msgspec.json.Decoder(table.type)
        try:
            return decoder.decode(data)
        except msgspec.MsgspecError as error:
            raise Internal(f"state: a record of {table.name} is not this version's: {error}") from error

    def _one(self, table: Table, column: str, value: str) -> Any | None:
        query = f"SELECT json FROM records WHERE kind = ? AND {column} = ?"  # noqa: S608 - column is one of two literals
        row = self._connection.execute(query, (table.name, value)).fetchone()
        return None if row is None else self._decode(table, row[0])

    def get(self, table: Table, key: str) -> Any | None:
        return self._one(table, "key", key)

    def find(self, table: Table, unique_value: str) -> Any | None:
        return self._one(table, "name", unique_value)

    def list(self, table: Table) -> Sequence[Any]:
        rows = self._connection.execute("SELECT json FROM records WHERE kind = ? ORDER BY key", (table.name,))
        return [self._decode(table, row[0]) for row in rows]

    def put(self, table: Table, key: str, record: Any) -> None:
        name = getattr(record, table.unique) or None if table.unique else None
        try:
            self._connection.execute(
                "INSERT INTO records (kind, key, name, json) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (kind, key) DO UPDATE SET name = excluded.name, json = excluded.json",
                (table.name, key, name, _encoder.encode(record)),
            )
        except sqlite3.IntegrityError as error:
            raise Conflict(f"{table.name} {name} already exists") from error

    def delete(self, table: Table, key: str) -> None:
        self._connection.execute("DELETE FROM records WHERE kind = ? AND key = ?", (table.name, key))
