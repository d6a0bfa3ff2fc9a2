"""One collection while it is open: connected, created or checked, loaded; and the requests all else is made of."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from qwen3_rag.errors import CollectionError, ConfigurationError, StoreError
from qwen3_rag.milvus.columns import OURS, Columns
from qwen3_rag.milvus.connection import Connection, Target, connect
from qwen3_rag.milvus.contract import Contract
from qwen3_rag.milvus.expressions import after_id, id_in
from qwen3_rag.milvus.failures import ConnectionLostError, translated
from qwen3_rag.milvus.lifecycle import (
    Settings,
    check_index,
    create_bare,
    create_index,
    open_collection,
    sparse_of_new,
)
from qwen3_rag.milvus.schema import Layout, SparseLeg

ROWS_PER_REQUEST: Final = 500
"""When reading rows by id."""
IDS_PER_REQUEST: Final = 10_000
"""When reading ids by condition; a server returns at most 16,384 rows at once."""

T = TypeVar("T")


@dataclass(slots=True)
class Session:
    """The state behind a `MilvusCollection`; thread-safe.

    Locks are taken in the order `writing` (of the database), `_opening`.

    Attributes:
        target: The database.
        db_name: Database on the server.
        settings: How the collection is opened and created.
    """

    target: Target
    db_name: str | None
    settings: Settings
    _opening: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False)
    _connection: Connection | None = field(default=None, init=False, repr=False)
    _layout: Layout | None = field(default=None, init=False, repr=False)

    def __copy__(self) -> Session:
        return replace(self)  # closed: it connects on its first use, as this one did

    def __deepcopy__(self, memo: dict[int, Any]) -> Session:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        if self.target.token is not None:
            raise ConfigurationError(
                f"the handle of collection {self.name!r} has a token, which must not get into a pickle: pickle uri and "
                "name, and open it again with the token; copying works"
            )
        return Session, (self.target, self.db_name, self.settings)

    @property
    def name(self) -> str:
        """Name of the collection."""
        return self.settings.name

    @property
    def timeout(self) -> float | None:
        """Seconds per request."""
        return self.settings.timeout

    def connection(self) -> Connection:
        """Connects if need be."""
        with self._opening:
            if self._connection is None:
                self._connection = connect(self.target, db_name=self.db_name, timeout=self.timeout)
            return self._connection

    def close(self) -> None:
        """Closes the connection after the write that may be going on; the next request opens another."""
        connection = self._connection
        if connection is None:
            return
        with self._writing(connection), self._opening:
            if self._connection is connection:
                self._connection = self._layout = None
                connection.close()

    def exists(self) -> bool:
        """Whether the collection is there."""
        client = self.connection().client
        with self.translated("looking for"):
            return bool(client.has_collection(self.name, timeout=self.timeout))

    def layout(self) -> Layout | None:
        """The layout of the collection, which is then loaded; `None` if it does not exist."""
        layout = self._layout
        if layout is None and self.exists():
            with self.translated("opening"):  # two threads at once both find the same
                layout = self._layout = open_collection(self.connection(), self.settings)
        return layout

    def sparse(self) -> SparseLeg | None:
        """What the sparse leg of the collection holds, or that of a new one would."""
        layout = self.layout()
        return sparse_of_new(self.connection(), self.settings) if layout is None else layout.sparse

    def create(self, dimensions: int, sparse: SparseLeg | None, contract: Contract | None) -> Layout:
        """Creates the collection and its indexes, or nothing; or opens the one that somebody else just created."""
        connection = self.connection()
        check_index(connection, self.settings)
        with self._writing(connection), self._opening:
            if self.layout() is None and self._create_bare(connection, dimensions, sparse, contract):
                try:
                    with self.translated("indexing"):
                        create_index(connection.client, self.settings, sparse=sparse)
                    self.layout()
                except BaseException as error:
                    self._drop_after(error)
                    raise
            layout = self.layout()
            if layout is None:
                raise CollectionError(f"collection {self.name!r} was dropped by somebody else while it was created")
            return layout

    def drop(self) -> None:
        """Drops the collection if it exists."""
        connection = self.connection()
        with self._writing(connection), self._opening:
            if self.exists():
                with self.translated("dropping"):
                    connection.client.drop_collection(self.name, timeout=self.timeout)
            self._layout = None

    def writing(self) -> AbstractContextManager[Any]:
        """Lets the writers to one Milvus Lite database take turns; servers sort that out themselves."""
        return self._writing(self.connection())

    def run(self, action: str, absent: T, request: Callable[[Connection, Layout], T]) -> T:
        """Sends a request to the open collection.

        If the collection turns out to be gone, released or replaced by another handle, it is opened again and the
        request, which has to bear that, is sent once more.

        Args:
            action: What is done, for error messages.
            absent: What to return if the collection does not exist.
            request: Gets the connection and the layout.

        Returns:
            What the request returned, or `absent`.
        """
        try:
            return self._run(action, absent, request)
        except CollectionError:
            self._layout = None
            return self._run(action, absent, request)
        except StoreError:
            self._layout = None  # perhaps another handle replaced the collection: the next request looks again
            raise

    def replace(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Writes rows in place of those with the same ids."""
        # The upsert of Milvus Lite merges: metadata keys of the old row would stay and be found by filters. Its insert
        # replaces rows, where that of a server would write them twice.
        send = connection.client.insert if connection.lite else connection.client.upsert
        send(self.name, rows, timeout=self.timeout)

    def query(self, expression: str, output_fields: Sequence[str], **options: Any) -> list[Any]:
        """Reads rows by a condition."""
        rows = self.connection().client.query(
            self.name,
            filter=expression,
            output_fields=list(output_fields),
            consistency_level=self.settings.consistency,
            timeout=self.timeout,
            **options,
        )
        return list(rows)

    def query_rows(self, ids: Sequence[str], output_fields: Sequence[str], columns: Columns = OURS) -> Iterator[Any]:
        """Reads rows by id, in no order, some at a time."""
        for start in range(0, len(ids), ROWS_PER_REQUEST):
            some = ids[start : start + ROWS_PER_REQUEST]
            if columns.keys(some):
                yield from self.query(id_in(some, columns), [columns.id, *output_fields])

    def query_ids(
        self, layout: Layout, condition: str | bool, limit: int | None = None, *, after: str = ""
    ) -> list[str]:
        """Reads the ids of the rows that match and come after one, in order: all of them, or the first `limit`.

        `MilvusClient.query_iterator` does the same, but writes ids into conditions without escaping them.
        """
        ids: dict[str, None] = {}
        columns = layout.columns
        if condition is not False and layout.consistency != self.settings.consistency:
            # pymilvus lets the pages be read at the collection's own level; a read at the wanted one waits for what they have
            # to show.
            self.query(id_in(["0"], columns), [columns.id])
        page = IDS_PER_REQUEST if limit is None else min(limit, IDS_PER_REQUEST)
        while condition is not False and (limit is None or len(ids) < limit):
            beyond = after_id(after, columns)
            expression = beyond if condition is True else f"{condition} and {beyond}"
            # "iterator" makes every Milvus return the rows with the smallest ids, in order.
            rows = self.query(expression, [columns.id], limit=page, iterator="True")
            found = [str(row[columns.id]) for row in rows]
            ids |= dict.fromkeys(found)
            if len(found) < page:
                break
            after = found[-1]
        return list(ids)[:limit]

    def check_dimensions(self, layout: Layout, dimensions: int) -> None:
        """Refuses vectors of another length than the collection's.

        Raises:
            CollectionError: If the lengths differ.
        """
        if dimensions != layout.dimensions:
            writer = "the model" if layout.contract is None else f"{layout.contract.model!r}, the model,"
            raise CollectionError(
                f"collection {self.name!r} holds vectors of {layout.dimensions} dimensions, got {dimensions}: use "
                f"{writer} and the dimension that it was written with, or another name, or drop it and ingest again"
            )

    def check_writable(self) -> None:
        """Refuses to write to a collection that another tool laid out, or to create one that compares by L2.

        Raises:
            CollectionError: If it is such a collection.
            ConfigurationError: If it does not exist and would compare by L2.
        """

        def check(_connection: Connection, layout: Layout) -> bool:
            if not layout.columns.ours:
                raise CollectionError(
                    f"collection {self.name!r} was laid out by another tool in its own way ({layout.columns}), so it can be "
                    "searched, read and deleted from here, not written to: write to it with that tool, such as "
                    "langchain_milvus.Milvus, or ingest into a new collection"
                )
            return True

        if not self.run("opening", False, check) and self.settings.metric == "L2":
            raise ConfigurationError(
                f"there is no collection {self.name!r}, and metric='L2' is for reading one that another tool wrote: vectors of "
                "unit length, as Qwen3's are, have the same order by metric='COSINE', whose score says how near they are"
            )

    @contextmanager
    def translated(self, action: str) -> Iterator[None]:
        """Turns the errors of a request into ours; after a lost connection the next request makes a new one."""
        try:
            with translated(f"{action} collection {self.name!r}", self.target.token):
                yield
        except ConnectionLostError as error:
            with self._opening:
                lost, self._connection, self._layout = self._connection, None, None
            if lost is not None:
                lost.close()
            raise ConnectionLostError(f"{error} (at {self.target.address!r})") from error

    def _run(self, action: str, absent: T, request: Callable[[Connection, Layout], T]) -> T:
        connection, layout = self.connection(), self.layout()
        if layout is None:
            return absent
        with self.translated(action):
            return request(connection, layout)

    def _writing(self, connection: Connection) -> AbstractContextManager[Any]:
        return connection.writing if connection.lite else nullcontext()

    def _create_bare(
        self, connection: Connection, dimensions: int, sparse: SparseLeg | None, contract: Contract | None
    ) -> bool:
        """Creates the collection without an index; `False` if somebody else was faster."""
        properties = {} if contract is None else contract.properties()
        try:
            with self.translated("creating"):
                create_bare(connection.client, self.settings, dimensions, properties, sparse=sparse)
        except StoreError:
            if self.exists():
                return False
            raise
        return True

    def _drop_after(self, error: BaseException) -> None:
        try:
            self.drop()
        except StoreError as second:
            error.add_note(f"What had been created so far could not be dropped: {second}")
