"""Faults of a local database and of a server: every one is a typed error that names its cause, or the right result."""

import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from qwen3_rag.errors import ConfigurationError, Qwen3RagError, StoreConnectionError, StoreError
from qwen3_rag.milvus import MilvusCollection, connection
from tests.integration.milvus_support import free_port, lite_server, passages, vectors

HELPER = """
import os, sys
import numpy as np
from qwen3_rag.errors import Qwen3RagError
from qwen3_rag.milvus import MilvusCollection
from qwen3_rag.types import Passage

def unit(i):
    v = np.random.default_rng(i).standard_normal(8)
    return v / np.linalg.norm(v)
"""


def python(code: str, *args: str, **options) -> subprocess.Popen:
    """Runs code in another process, as `sys.argv[1:] = args`."""
    source = str(Path(__file__).parents[2] / "src")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", HELPER + textwrap.dedent(code), *args]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.fixture
def library_log():
    """What pymilvus, Milvus Lite and gRPC log from warnings upwards; pymilvus does not pass it on to the root logger."""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record):
            records.append(record)

    handler = Keep(logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("pymilvus", "milvus_lite", "grpc")]
    for logger in loggers:
        logger.addHandler(handler)
    yield records
    for logger in loggers:
        logger.removeHandler(handler)


TRY_TO_COUNT = """
try:
    with MilvusCollection(sys.argv[1]) as c:
        print("count", c.count())
except Qwen3RagError as error:
    print(type(error).__name__, error)
"""

WITHOUT_PRIVILEGES = """
import milvus_lite.adapter.grpc.server, pymilvus  # while we may still read them
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
"""

# ---------------------------------------------------------------- the lock


def test_another_process_is_told_that_the_file_is_locked(tmp_path):
    path = str(tmp_path / "m.db")
    with MilvusCollection(path) as c:
        c.upsert(passages(3), vectors(3))
        out, err = python(TRY_TO_COUNT, path).communicate(timeout=60)
        assert re.fullmatch(r"StoreConnectionError can't open .*m\.db.*another process has it open.*\n", out), (
            out,
            err,
        )
        assert "Traceback" not in err
    out, err = python(TRY_TO_COUNT, path).communicate(timeout=60)
    assert out == "count 3\n", err


def test_we_are_told_that_another_process_has_the_file(tmp_path, library_log):
    path = str(tmp_path / "m.db")
    other = python(
        """
        c = MilvusCollection(sys.argv[1])
        c.upsert([Passage("a", "t")], [unit(0)])
        print("open", flush=True)
        sys.stdin.readline()
        c.close()
        print("closed", flush=True)
        sys.stdin.readline()
        """,
        path,
        stdin=subprocess.PIPE,
    )
    try:
        assert other.stdout.readline() == "open\n"
        c = MilvusCollection(path)
        for call in (c.count, c.exists, lambda: c.upsert(passages(1), vectors(1)), lambda: c.search(vectors(1)[0])):
            with pytest.raises(StoreConnectionError, match="another process"):
                call()
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "closed\n"
        assert c.count() == 1  # closed there, so open here, while the other process still runs
        c.close()
    finally:
        other.kill()
        other.communicate()
    assert library_log == []


def test_the_lock_is_given_back_by_the_last_user_only(tmp_path):
    path = tmp_path / "m.db"

    def locked() -> bool:
        out, err = python(TRY_TO_COUNT, str(path)).communicate(timeout=60)
        assert out, err
        return "another process" in out

    a, b = MilvusCollection(path, "a"), MilvusCollection(str(path), "b")
    a.upsert(passages(1), vectors(1))
    b.upsert(passages(2), vectors(2))
    a.close()
    a.close()
    assert locked()
    assert b.count() == 2
    b.close()
    assert not locked()


def test_a_database_that_the_application_opened_itself_stays_open(tmp_path):
    from milvus_lite.server_manager import server_manager_instance
    from pymilvus import MilvusClient

    path = str(tmp_path / "m.db")
    theirs = MilvusClient(path)
    with MilvusCollection(path) as c:
        c.upsert(passages(1), vectors(1))
    assert theirs.list_collections() == ["qwen3_rag"]
    theirs.close()
    server_manager_instance.release_server(path)


def test_opening_and_closing_from_many_threads(tmp_path):
    path = tmp_path / "m.db"
    with MilvusCollection(path) as c:
        c.upsert(passages(5), vectors(5))

    def once(_i):
        with MilvusCollection(path) as handle:
            return handle.count()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(once, range(64))) == {5}
    out, err = python(TRY_TO_COUNT, str(path)).communicate(timeout=60)
    assert out == "count 5\n", err


def test_closing_waits_for_a_write_and_reopens_for_the_next(tmp_path):
    c = MilvusCollection(tmp_path / "m.db")
    stop = threading.Event()

    def close_often():
        while not stop.is_set():
            c.close()
            time.sleep(0.01)

    with ThreadPoolExecutor(1) as pool:
        closer = pool.submit(close_often)
        try:
            for i in range(15):
                c.upsert(passages(2, 2 * i), vectors(2, seed=i))
        finally:
            stop.set()
        closer.result()
    assert c.count() == 30
    c.close()


# ---------------------------------------------------------------- paths


@pytest.mark.parametrize(
    "name", ["m", "m.DB", "m.db/", "m.sqlite", "localhost:19530", "", "file:///tmp/m.db", "ftp://host"]
)
def test_a_wrong_suffix_or_scheme_is_refused_at_once(name):
    with pytest.raises(ConfigurationError, match=r"\.db"):
        MilvusCollection(name)


def test_a_missing_folder_is_named(tmp_path):
    path = tmp_path / "no" / "such" / "m.db"
    c = MilvusCollection(path)
    for call in (c.exists, lambda: c.upsert(passages(1), vectors(1))):
        with pytest.raises(StoreConnectionError, match=r"no/such' does not exist; create it"):
            call()
    path.parent.mkdir(parents=True)
    c.upsert(passages(1), vectors(1))
    c.close()


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "old.db").write_bytes(b"SQLite format 3\0")
    with pytest.raises(StoreConnectionError, match=r"single file.*Milvus Lite 2.*another path"):
        MilvusCollection(tmp_path / "old.db").count()
    assert (tmp_path / "old.db").read_bytes() == b"SQLite format 3\0"
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreConnectionError, match="folder"):
        MilvusCollection(tmp_path / "file" / "m.db").count()


def test_all_spellings_of_a_path_are_one_database(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "sub dir é").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "sub dir é" / "m.db")
    (tmp_path / "sub dir é" / "m.db").mkdir()
    names = [
        Path("sub dir é") / "m.db",
        "./sub dir é/../sub dir é/m.db",
        "~/sub dir é/m.db",
        str(tmp_path / "sub dir é" / "m.db"),
        "link.db",
    ]
    handles = [MilvusCollection(name) for name in names]
    for i, handle in enumerate(handles):
        handle.upsert(passages(1, i), vectors(1, seed=i))
    assert [h.count() for h in handles] == [5] * 5
    monkeypatch.chdir("/")  # the path was made absolute when it was given
    for handle in handles:
        handle.close()
    assert handles[0].count() == 5
    handles[0].close()
    out, err = python(TRY_TO_COUNT, str(tmp_path / "sub dir é" / "m.db")).communicate(timeout=60)
    assert out == "count 5\n", err


def test_constructing_touches_nothing(tmp_path):
    MilvusCollection(tmp_path / "m.db")
    MilvusCollection("http://127.0.0.1:1", token="secret")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_a_folder_that_can_not_be_written():
    """Root may write everywhere, so the child gives that up if it has it."""
    with tempfile.TemporaryDirectory() as folder:
        with MilvusCollection(Path(folder) / "m.db") as c:
            c.upsert(passages(2), vectors(2))
        paths = [Path(folder), *Path(folder).rglob("*")]
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)
        for name in ("m.db", "new.db"):
            out, err = python(WITHOUT_PRIVILEGES + TRY_TO_COUNT, str(Path(folder) / name)).communicate(timeout=60)
            assert re.match(r"StoreConnectionError can't open .*it can't be written.*Permission denied", out), (
                out,
                err,
            )
            assert "Traceback" not in err
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)


# ---------------------------------------------------------------- kills

WRITE_FOREVER = """
c = MilvusCollection(sys.argv[1])
for i in range(100_000):
    ids = range(i * 20, i * 20 + 20)
    c.upsert([Passage(f"{j:07}", f"text {j}", {"n": j}) for j in ids], [unit(j) for j in ids])
    if i % 7 == 6:
        c.flush()
    os.write(1, f"{i}\\n".encode())
"""


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.35, 0.9])
def test_sigkill_while_writing_loses_nothing_that_was_acknowledged(tmp_path, delay):
    path = str(tmp_path / "m.db")
    process = python(WRITE_FOREVER, path)
    first = process.stdout.readline()
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    lines = (first + process.stdout.read()).split("\n")
    process.communicate()
    acknowledged = 20 * (1 + max(int(line) for line in lines[:-1]))

    with MilvusCollection(path) as c:
        found = c.find({})
        ids = [p.id for p in found]
        assert ids[:acknowledged] == [f"{j:07}" for j in range(acknowledged)]
        assert len(ids) - acknowledged in (0, 20)  # the batch in flight is there as a whole or not at all
        assert len(set(ids)) == len(ids) == c.count()
        assert all(p.text == f"text {int(p.id)}" and p.metadata == {"n": int(p.id)} for p in found)
        for j in (0, acknowledged - 1):
            query = np.random.default_rng(j).standard_normal(8)
            assert c.search(query / np.linalg.norm(query), 1)[0].passage.id == f"{j:07}"
        c.upsert(passages(1), vectors(1))
        assert c.count() == len(ids) + 1


@pytest.mark.parametrize("in_server", [False, True], ids=["file", "server"])
def test_sigkill_in_the_middle_of_a_flush_leaves_nothing_twice(tmp_path, in_server):
    """Milvus Lite then has rows on disk and in its log; reading them twice would be wrong, and so would losing them."""
    path = str(tmp_path / "m.db")
    out, err = python(
        """
        import signal
        from milvus_lite.storage.wal import WAL
        c = MilvusCollection(sys.argv[1])
        for start in (0, 10):
            ids = range(start, start + 10)
            c.upsert([Passage(f"p{i:04}", f"text {i}", {"n": i}, f"doc{i % 3}") for i in ids], [unit(i) for i in ids])
            if start:
                WAL.close_and_delete = lambda self: os.kill(os.getpid(), signal.SIGKILL)
            c.flush()
        """,
        path,
    ).communicate(timeout=60)
    assert not out, err
    with lite_server(Path(path)) if in_server else nullcontext(path) as uri, MilvusCollection(uri) as c:
        assert len(c.search(vectors(1)[0], 100)) == 20
        assert sorted(hit.passage.id for hit in c.search_text("text", 100)) == [p.id for p in passages(20)]
        assert c.find({}) == passages(20)
        assert c.count() == 20
        c.upsert(passages(5, 18), vectors(5))
        c.flush()
        assert c.find({}) == passages(23)
        assert c.delete(filter={"n": {"$gte": 10}}) == 13
        assert c.find({}) == passages(10)


KINDS = pytest.mark.parametrize(
    "kind",
    [(False, "bm25"), (True, "bm25"), (False, "model")],
    ids=["file", "server", "file with sparse vectors"],
)


def weights(leg: str, n: int, start: int = 0) -> dict[str, list[dict[int, float]]]:
    """What `upsert` takes for passages of `passages(n, start)`: the entry 1 in all, and one of each its own."""
    return {"sparse": [{1: 1.0, 10 + i: 2.0} for i in range(start, start + n)]} if leg == "model" else {}


def merged_and_replayed(tmp_path: Path, leg: str) -> tuple[str, int]:
    """A database as a kill leaves it when the flushed file was merged with others before the log was deleted."""
    path = tmp_path / "m.db"
    for i in range(20):
        with MilvusCollection(path, sparse=leg) as c:
            c.upsert(passages(10, 10 * i), vectors(10, seed=i), **weights(leg, 10, 10 * i))
            log = {file: file.read_bytes() for file in path.rglob("wal/*")}
            c.flush()
        if i and len(list(path.rglob("data/*.parquet"))) == 1:
            break
    else:
        pytest.fail("nothing was merged")
    for file, content in log.items():
        file.write_bytes(content)
    return str(path), 10 * (i + 1)


@KINDS
def test_rows_that_a_kill_left_twice_are_there_once(tmp_path, kind, library_log, caplog):
    in_server, leg = kind
    path, n = merged_and_replayed(tmp_path, leg)
    with lite_server(Path(path)) if in_server else nullcontext(path) as uri, MilvusCollection(uri) as c:
        assert c.count() == n
        hits = c.search(vectors(10)[3], 2 * n)
        assert len(hits) == len({h.passage.id for h in hits}) == n
        assert hits[0].passage == passages(10)[3]
        assert len(c.search_text("text", 2 * n) if leg == "bm25" else c.search_sparse({1: 1.0}, 2 * n)) == n
        assert c.find({}) == passages(n)
        c.close()
        assert c.count() == n
    assert library_log == []
    assert any("twice" in r.message for r in caplog.records if r.name == "qwen3_rag.milvus.recovery")


@pytest.mark.parametrize("size", [0, 1, 200])
@KINDS
def test_an_index_that_was_half_written_is_built_again(tmp_path, kind, size, library_log, caplog):
    in_server, leg = kind
    path = tmp_path / "m.db"
    with MilvusCollection(path, sparse=leg) as c:
        c.upsert(passages(50), vectors(50), **weights(leg, 50))
        c.flush()
    (index,) = path.rglob("indexes/*.idx")
    os.truncate(index, size)
    with lite_server(path) if in_server else nullcontext(path) as uri, MilvusCollection(uri) as c:
        assert [h.passage for h in c.search(vectors(50)[7], 1)] == [passages(50)[7]]
        assert [h.passage for h in (c.search_text("7") if leg == "bm25" else c.search_sparse({17: 1.0}))] == [
            passages(50)[7]
        ]
        assert c.find({}) == passages(50)
        c.close()
        assert c.count() == 50
    assert library_log == []
    assert [r.message for r in caplog.records if r.name == "qwen3_rag.milvus.recovery"] != []


def test_sigkill_while_creating_can_be_repaired_as_the_error_says(tmp_path):
    """A process that dies between creating the collection and its index leaves half of it; that is said, with the way out."""
    path = str(tmp_path / "m.db")
    out, err = python(
        """
        import signal
        from qwen3_rag.milvus import session
        session.create_index = lambda *args, **options: os.kill(os.getpid(), signal.SIGKILL)
        MilvusCollection(sys.argv[1]).upsert([Passage("a", "t")], [unit(0)])
        """,
        path,
    ).communicate(timeout=60)
    assert not out, err
    with MilvusCollection(path) as c:
        with pytest.raises(StoreError, match=r"no index.*drop this one"):
            c.upsert(passages(1), vectors(1))
        c.drop()
        c.upsert(passages(1), vectors(1))
        assert c.count() == 1


# ---------------------------------------------------------------- servers


def test_no_server_there(library_log):
    c = MilvusCollection(f"http://127.0.0.1:{free_port()}", timeout=0.5)
    start = time.monotonic()
    with pytest.raises(StoreConnectionError, match=r"127\.0\.0\.1"):
        c.count()
    assert time.monotonic() - start < 10
    c.close()
    assert library_log == []


@pytest.mark.slow
@pytest.mark.parametrize("timeout", [None, 3])
def test_a_server_that_goes_away_and_comes_back(tmp_path, library_log, timeout):
    port = free_port()
    with lite_server(tmp_path / "data", port) as uri:
        c = MilvusCollection(uri, timeout=timeout)
        c.upsert(passages(3), vectors(3))
    start = time.monotonic()
    for call in (c.count, lambda: c.search(vectors(1)[0]), lambda: c.upsert(passages(1), vectors(1))):
        with pytest.raises(StoreConnectionError, match=str(port)):
            call()
    assert time.monotonic() - start < 60  # at most the 10 seconds for connecting, each time
    with lite_server(tmp_path / "data", port), c:
        c.upsert(passages(1, 3), vectors(1, seed=3))  # the same handle goes on, though the restart released everything
        assert c.find({}) == passages(4)
    assert library_log == []


TOKEN = "s3cr3t-t0ken"


@pytest.mark.parametrize(
    ("reason", "failures", "attempts"),
    [("Too many pings", 1, {2, 3}), ("Too many pings", 9, {3}), ("connection refused", 9, {1})],
)
def test_a_transport_that_the_server_has_just_ended_is_replaced(server_uri, monkeypatch, reason, failures, attempts):
    """gRPC's channels to one address share it, so that a new connection may meet the end of an idle one, and so here."""
    made, real = [], connection._connect_to_server

    def ended_at_first(target, options):
        made.append(target)
        if len(made) <= failures:
            raise StoreConnectionError("gone") from RuntimeError(reason)
        return real(target, options)

    monkeypatch.setattr(connection, "_connect_to_server", ended_at_first)
    with MilvusCollection(server_uri, "pinged") as collection:
        if failures > 1:
            with pytest.raises(StoreConnectionError, match="gone"):
                collection.exists()
        else:
            assert not collection.exists()
    assert len(made) in attempts


@pytest.mark.parametrize(
    "options", [{"token": TOKEN}, {"token": f"root:{TOKEN}"}, {}], ids=["token", "password", "in the uri"]
)
def test_the_token_is_nowhere_to_be_seen(options, caplog, capfd, library_log):
    credentials = "" if options else f"root:{TOKEN}@"
    c = MilvusCollection(f"http://{credentials}127.0.0.1:{free_port()}", timeout=0.5, **options)
    with caplog.at_level(logging.DEBUG), pytest.raises(StoreConnectionError) as error:
        c.count()
    seen = traceback.format_exception(error.value)  # with all causes; pymilvus makes some their own cause
    captured = capfd.readouterr()
    for text in (
        repr(c),
        c.uri,
        repr(c._session),
        repr(c._session.target),
        *seen,
        caplog.text,
        captured.out,
        captured.err,
        str(library_log),
    ):
        assert TOKEN not in text


def test_an_address_with_a_password_that_is_wrong_does_not_show_it():
    for uri in (f"ftp://root:{TOKEN}@host", f"http://root:{TOKEN}@", f"http://root:{TOKEN}@host:notaport"):
        with pytest.raises(ConfigurationError) as error:
            MilvusCollection(uri)
        assert TOKEN not in str(error.value)
        assert error.value.__cause__ is None


def test_a_token_for_a_file_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="token"):
        MilvusCollection(tmp_path / "m.db", token="x")


def test_databases_on_a_server_are_apart(tmp_path):
    from pymilvus import MilvusClient

    with lite_server(tmp_path / "data") as uri:
        client = MilvusClient(uri)
        client.create_database("other")
        client.close()
        with (
            MilvusCollection(uri) as a,
            MilvusCollection(uri, db_name="other") as b,
            MilvusCollection(uri + "/other") as c,
        ):
            a.upsert(passages(1), vectors(1))
            b.upsert(passages(2), vectors(2))
            assert (a.count(), b.count(), c.count()) == (1, 2, 2)
        with pytest.raises(StoreConnectionError, match="nope"):
            MilvusCollection(uri, db_name="nope").count()


# ---------------------------------------------------------------- arguments and logs


@pytest.mark.parametrize(
    "options",
    [
        {"collection": "a-b"},
        {"collection": "1a"},
        {"collection": ""},
        {"collection": "é"},
        {"collection": "a\n"},
        {"collection": "a" * 256},
        {"metric": "HAMMING"},
        {"metric": "cosine"},
        {"consistency": "strong"},
        {"timeout": 0},
        {"timeout": -1},
        {"index": {"type": "HNSW"}},
        {"index": {"index_type": "HNSW", "metric_type": "IP"}},
        {"index": {"index_type": "HNSW", "params": 3}},
    ],
    ids=str,
)
def test_arguments_that_can_not_work_are_refused_at_construction(options):
    with pytest.raises(ConfigurationError):
        MilvusCollection(**options)


def test_handled_errors_are_not_logged_and_others_still_are(tmp_path, library_log):
    from pymilvus import MilvusClient, MilvusException

    with MilvusCollection(tmp_path / "m.db") as c, MilvusCollection(tmp_path / "m.db", metric="IP") as other:
        c.upsert(passages(1), vectors(1))
        c.flush()
        with pytest.raises(Qwen3RagError):
            other.count()
        with pytest.raises(Qwen3RagError):
            c.search(vectors(1, 16)[0])
        assert library_log == []
        client = MilvusClient(c.uri)
        with pytest.raises(MilvusException):
            client.describe_collection("nope")
        client.close()
    assert any("nope" in r.getMessage() for r in library_log)  # what the application does itself, it still sees


@pytest.mark.parametrize("level", ["Strong", "Bounded", "Session", "Eventually"])
def test_every_consistency_level_is_accepted(tmp_path, level):
    with MilvusCollection(tmp_path / "m.db", consistency=level) as c:
        c.upsert(passages(2), vectors(2))
        assert c.count() == 2
        assert len(c.search(vectors(1)[0])) == 2
