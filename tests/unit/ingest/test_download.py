"""Addresses: a file or an archive from a server on this machine, and everything that servers do instead."""

from __future__ import annotations

import gzip
import io
import logging
import pickle
import tempfile
import threading
import time
import tracemalloc
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from qwen3_rag.errors import InputError
from qwen3_rag.ingest import DownloadError, Limits, ingest
from qwen3_rag.ingest.download import _check
from tests.fakes import WordEmbedder
from tests.unit.ingest.stores import MemoryCollection

SECTION = b"# A\n\ntext\n"


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


@pytest.fixture
def server(monkeypatch):
    """Answers paths with `(status, headers, body)`, or lets a function write to the connection."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests.append((self.path, dict(self.headers)))
            answer = self.server.answers[self.path.partition("?")[0]]
            if callable(answer):
                answer(self)
                return
            status, headers, body = answer
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args):
            pass  # clients hang up

    server = Server(("127.0.0.1", 0), Handler)
    server.requests, server.answers = [], {}
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert list(tmp_path.iterdir()) == []


def read(url, **options):
    collection = MemoryCollection()
    report = ingest(url, WordEmbedder(8), collection, **options)
    return report, {about["source"] for _, about, _ in collection.content.values()}


@pytest.mark.parametrize(
    ("path", "headers", "source"),
    [
        ("/docs/a.md", {}, "a.md"),
        ("/docs/a.md?raw=1", {"Content-Type": "text/plain; charset=utf-8"}, "a.md"),
        ("/docs/%E6%96%87.md", {}, "文.md"),
        ("/readme", {"Content-Type": "text/markdown"}, "readme.md"),
        ("/", {"Content-Type": "text/plain"}, "download.txt"),
        ("/get", {"Content-Disposition": 'attachment; filename="../../b.md"'}, "b.md"),
        ("/get", {"Content-Disposition": "attachment; filename*=UTF-8''%E6%96%87.txt"}, "文.txt"),
        ("/get", {"Content-Disposition": r'attachment; filename="c:\x\y.md"'}, "y.md"),
    ],
)
def test_a_file(server, path, headers, source):
    server.answers[path.partition("?")[0]] = (200, headers, SECTION)
    report, sources = read(server.url + path)
    assert sources == {source}
    assert (report.files, report.added) == (1, 1)


def test_an_archive_whatever_its_name(server):
    body = zipped({"en/faq/a.md": SECTION, "en/b.md": SECTION})
    for path, headers in [("/docs.zip", {}), ("/latest", {"Content-Type": "application/octet-stream"})]:
        server.answers[path] = (200, headers, body)
        assert read(server.url + path, include="en/faq/*")[1] == {"en/faq/a.md"}


def test_the_same_address_again_changes_nothing(server):
    server.answers["/docs.zip"] = (200, {}, zipped({"a.md": SECTION}))
    collection, embedder = MemoryCollection(), WordEmbedder(8)
    ingest(server.url + "/docs.zip?v=1", embedder, collection)
    before = collection.content
    report = ingest(server.url.replace("//", "//user:secret@") + "/docs.zip?v=1", embedder, collection)
    assert (report.added, report.unchanged) == (0, 1)
    assert collection.content == before
    (root,) = next(iter(before.values()))[1]["roots"]
    assert root.startswith("docs.zip-")


def test_addresses_that_differ_in_their_query_are_not_the_same(server):
    """As those of many services are; taken for one, the second would be left out, and pruning it would remove the first."""
    collection, urls = MemoryCollection(), [f"{server.url}/get?id={i}" for i in range(2)]
    server.answers["/get"] = lambda handler: handler.wfile.write(
        b"HTTP/1.0 200 OK\r\nContent-Type: text/markdown\r\n\r\n# From " + handler.path.encode()
    )
    report = ingest(urls, WordEmbedder(8), collection)
    assert (report.files, report.added) == (2, 2)
    roots = [about["roots"] for _, about, _ in collection.content.values()]
    assert roots[0] != roots[1]
    assert "id=" not in str(roots)


def test_redirects_are_followed_within_a_limit(server):
    server.answers["/old.md"] = (302, {"Location": "/new"}, b"")
    server.answers["/new"] = (200, {}, SECTION)
    assert read(server.url + "/old.md")[1] == {"old.md"}
    server.answers["/loop"] = (302, {"Location": "/loop"}, b"")
    with pytest.raises(DownloadError, match="redirects more than redirects=5 times"):
        read(server.url + "/loop")
    with pytest.raises(DownloadError, match="HTTP 302"):
        read(server.url + "/old.md", limits=Limits(redirects=0))
    server.answers["/out"] = (302, {"Location": "file:///etc/passwd"}, b"")
    with pytest.raises(DownloadError, match="out"):
        read(server.url + "/out")


@pytest.mark.parametrize("status", [401, 403, 404, 500, 206])
def test_other_answers_are_errors(server, status):
    server.answers["/a.md"] = (status, {}, b"# no")
    with pytest.raises(DownloadError, match=f"HTTP {status}") as caught:
        read(server.url + "/a.md")
    assert caught.value.status == status
    assert caught.value.url == server.url + "/a.md"


@pytest.mark.parametrize(
    ("path", "media_type", "message"),
    [
        ("/a.md", "text/html", "is a web page"),
        ("/a.pdf", "application/pdf", "but application/pdf"),
        ("/a", "", "an unknown type"),
        ("/a.zip", "text/plain", "neither a .* file nor a zip archive"),
    ],
)
def test_the_wrong_type(server, path, media_type, message):
    server.answers[path] = (200, {"Content-Type": media_type}, b"<html>")
    with pytest.raises(InputError, match=message):
        read(server.url + path)


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(10_000):
        handler.wfile.write(b"x" * 65_536)


def test_a_huge_body_is_given_up_while_it_arrives(server):
    server.answers["/a.md"] = endless
    with pytest.raises(DownloadError, match="larger than the limit download_bytes=1,000,000"):
        read(server.url + "/a.md", limits=Limits(download_bytes=1_000_000))
    server.answers["/b.md"] = (200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(20_000_000)))
    with pytest.raises(DownloadError, match="larger than the limit"):
        read(server.url + "/b.md", limits=Limits(download_bytes=1_000_000))


def test_a_body_that_is_packed_on_the_way(server):
    text = SECTION + bytes(range(48, 122)) * 3000
    for name, body in {"/a.md": text, "/b.md": SECTION}.items():
        server.answers[name] = (200, {"Content-Encoding": "gzip"}, gzip.compress(body))
        assert read(server.url + name)[0].files == 1
    assert server.requests[0][1]["Accept-Encoding"] == "identity"
    server.answers["/a.md"] = (200, {"Content-Encoding": "gzip"}, gzip.compress(text)[:-9])
    with pytest.raises(DownloadError, match="breaks off"):
        read(server.url + "/a.md")
    server.answers["/a.md"] = (200, {"Content-Encoding": "gzip"}, b"no gzip")
    with pytest.raises(DownloadError, match="broken"):
        read(server.url + "/a.md")


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd"])
def test_a_bomb_of_few_bytes_is_not_unpacked(server, encoding):
    server.answers["/a.md"] = (200, {"Content-Encoding": encoding}, gzip.compress(gzip.compress(bytes(100_000_000))))
    tracemalloc.start()
    with pytest.raises(DownloadError, match="which nobody asked for"):
        read(server.url + "/a.md")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10_000_000


def test_a_body_that_unpacks_to_nothing_is_given_up(server):
    def empty_blocks(handler):
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(b"\x1f\x8b\x08\0\0\0\0\0\0\3")
        for _ in range(100):
            handler.wfile.write(b"\0\0\0\xff\xff")
            time.sleep(0.02)

    server.answers["/a.md"] = empty_blocks
    with pytest.raises(DownloadError, match=r"longer than the limit download_seconds=0\.3"):
        read(server.url + "/a.md", limits=Limits(download_seconds=0.3))


def test_slow_servers_are_given_up(server):
    def silent(handler):
        time.sleep(1)

    def trickle(handler):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b"x")
            time.sleep(0.05)

    server.answers |= {"/silent.md": silent, "/trickle.md": trickle}
    with pytest.raises(DownloadError, match=r"within timeout=0\.2 seconds"):
        read(server.url + "/silent.md", limits=Limits(timeout=0.2))
    with pytest.raises(DownloadError, match=r"longer than the limit download_seconds=0\.3"):
        read(server.url + "/trickle.md", limits=Limits(download_seconds=0.3))


def test_a_body_that_breaks_off_is_an_error(server):
    server.answers["/a.md"] = (200, {"Content-Length": "1000"}, SECTION)
    with pytest.raises(DownloadError, match="can't download"):
        read(server.url + "/a.md")


def test_nobody_there():
    with pytest.raises(DownloadError, match=r"can't download 'http://127\.0\.0\.1:9/a\.md'"):
        read("http://127.0.0.1:9/a.md")


def test_no_hop_of_a_redirect_is_open_to_anybody_on_the_way():
    def response(status, url, *history):
        return httpx.Response(status, request=httpx.Request("GET", url), history=list(history))

    hop = response(302, "http://host/b.md", response(302, "https://host/a.md"))
    with pytest.raises(DownloadError, match="redirects to http"):
        _check(response(200, "https://host/c.md", hop), "https://host/a.md")


@pytest.mark.parametrize(
    ("name", "value"), [("ALL_PROXY", "foo://host"), ("ALL_PROXY", "socks5://host"), ("SSL_CERT_FILE", "none.pem")]
)
def test_a_proxy_or_certificate_that_can_not_be_used(server, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    server.answers["/a.md"] = (404, {}, b"")
    with pytest.raises(DownloadError, match=r"can't download 'http://127\.0\.0\.1"):
        read(server.url + "/a.md")


def test_the_error_survives_being_pickled():
    error = pickle.loads(pickle.dumps(DownloadError("gone", url="http://host/a.md", status=404)))
    assert (str(error), error.url, error.status) == ("gone", "http://host/a.md", 404)


def test_credentials_are_sent_and_never_shown(server, caplog):
    caplog.set_level(logging.DEBUG)
    server.answers["/a.md"] = (404, {}, b"")
    url = server.url.replace("//", "//user:very-secret@") + "/a.md?token=hidden"
    with pytest.raises(DownloadError) as caught:
        read(url)
    assert "Basic" in server.requests[0][1]["Authorization"]
    for word in ("secret", "user", "hidden"):
        assert word not in str(caught.value) + caught.value.url + caplog.text


@pytest.mark.parametrize("url", ["http://", "http:///a.md", "https://[::1/a.md", "http://host:port/a.md"])
def test_what_is_no_address(url):
    with pytest.raises(InputError, match="address"):
        read(url)


def test_a_disk_that_can_not_be_written(server, monkeypatch):
    server.answers["/a.md"] = (200, {}, SECTION)
    open_ = Path.open

    def full(self, mode="r", *args, **kwargs):
        if "w" in mode and self.name == "download":
            raise OSError(28, "No space left on device")
        return open_(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DownloadError, match=r"can't keep .*: No space left on device"):
        read(server.url + "/a.md")
