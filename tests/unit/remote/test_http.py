"""The transport: connections, proxies, certificates, threads, event loops, forks."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import os
import pickle
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from qwen3_rag import load_embedder
from qwen3_rag.errors import ConfigurationError, InputError, RemoteConnectionError, RemoteTimeoutError
from qwen3_rag.remote import RateLimit, RetryPolicy, Timeouts
from qwen3_rag.remote.loop import LOOP
from tests.remote_server.faults import TEXTS, right
from tests.remote_server.loopback import Loopback, Received, Reply


def embedder(url: str, **options):
    return load_embedder("vllm:m", base_url=url, **{"probe": False, "rows": 1, **options})


def slow(seconds: float):
    def app(received: Received) -> Reply:
        time.sleep(seconds)
        return right(received)

    return app


def test_connections_are_kept_and_as_many_as_allowed():
    with Loopback(slow(0.02)) as server:
        model = embedder(server.url, concurrency=3)
        for _ in range(3):
            model.embed_documents([f"text {n}" for n in range(10)])
        assert len(server.received) == 30
        assert server.connections == 3


def test_no_more_requests_at_once_than_allowed():
    busy, most, guard = [0], [0], threading.Lock()

    def app(received: Received) -> Reply:
        with guard:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        time.sleep(0.02)
        with guard:
            busy[0] -= 1
        return right(received)

    with Loopback(app) as server:
        model = embedder(server.url, concurrency=4)
        with ThreadPoolExecutor(4) as pool:  # the bound is the model's, not the call's
            list(pool.map(lambda t: model.embed_documents([f"{t} {n}" for n in range(8)]), range(4)))
    assert most == [4]


@pytest.mark.parametrize("options", [{"concurrency": 1}, {"rate_limit": RateLimit(requests_per_minute=600)}])
def test_a_request_that_waits_for_its_turn_is_in_time(options):
    """Many requests of one call queue here; the deadline is for the server."""
    with Loopback(slow(0.1)) as server:
        model = embedder(server.url, timeout=0.8, retries=RetryPolicy(attempts=1), **options)
        assert len(model.embed_documents([f"text {n}" for n in range(24)]).vectors) == 24


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_model_in_use_can_be_copied_and_pickled(duplicate):
    with Loopback(right) as server:
        model = embedder(server.url)
        vectors = model.embed_documents(TEXTS).vectors
        assert (duplicate(model).embed_documents(TEXTS).vectors == vectors).all()


@pytest.mark.parametrize("secret", [{"api_key": "sk-secret"}, {"headers": {"Authorization": "sk-secret"}}])
def test_a_secret_gets_into_no_pickle(secret):
    model = embedder("http://localhost:9", **secret)
    with pytest.raises(ConfigurationError, match="must not get into a pickle") as caught:
        pickle.dumps(model)
    assert "sk-secret" not in str(caught.value)
    assert copy.deepcopy(model).model_id == model.model_id


def test_a_closed_model_opens_again_when_used():
    with Loopback(right) as server:
        model = embedder(server.url)
        for _ in range(2):
            assert len(model.embed_documents(TEXTS).vectors) == len(TEXTS)
            model.close()
            model.close()
        with embedder(server.url) as inside:
            inside.embed_documents(["a"])


async def test_a_model_is_an_asynchronous_context_too():
    with Loopback(right) as server:
        async with embedder(server.url) as model:
            await model.awarm_up()
            assert len((await model.aembed_documents(TEXTS)).vectors) == len(TEXTS)


def test_one_model_serves_one_event_loop_after_another():
    with Loopback(right) as server:
        model = embedder(server.url)
        for _ in range(3):
            assert len(asyncio.run(model.aembed_documents(TEXTS)).vectors) == len(TEXTS)
        assert server.connections <= 4


async def test_a_synchronous_call_works_inside_a_running_loop():
    with Loopback(right) as server:
        assert len(embedder(server.url).embed_documents(TEXTS).vectors) == len(TEXTS)


async def test_the_caller_s_loop_stays_free():
    with Loopback(slow(0.3)) as server:
        task = asyncio.create_task(embedder(server.url).aembed_documents(["a"]))
        beats = 0
        while not task.done():
            await asyncio.sleep(0.01)
            beats += 1
        assert beats >= 10


async def test_cancelling_a_call_gives_up_its_requests():
    with Loopback(slow(0.2)) as server:
        model = embedder(server.url, concurrency=1)
        task = asyncio.create_task(model.aembed_documents([f"{n}" for n in range(50)]))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.5)
        assert len(server.received) <= 4
        assert len((await model.aembed_documents(["a"])).vectors) == 1


def test_an_interrupt_of_the_waiting_thread_gives_up_the_call():
    cancelled = threading.Event()

    async def endless():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.2, interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            LOOP.run(endless())
    finally:
        signal.signal(signal.SIGINT, before)
    assert cancelled.wait(2)


def test_the_callers_context_reaches_the_request():
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")

    async def read():
        return name.get()

    name.set("caller")
    assert LOOP.run(read()) == "caller"
    assert asyncio.run(LOOP.arun(read())) == "caller"


def test_connections_of_a_model_that_nobody_holds_are_closed(recwarn):
    with Loopback(right) as server:
        model = embedder(server.url)
        model.embed_documents(["a"])
        client = model._client._opened[0].client
        del model
        gc.collect()
        deadline = time.monotonic() + 5
        while not client.is_closed and time.monotonic() < deadline:
            time.sleep(0.01)
        assert client.is_closed
    assert [str(w.message) for w in recwarn if w.category is ResourceWarning] == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_a_loop_of_its_own():
    with Loopback(right) as server:
        model = embedder(server.url)
        model.embed_documents(["a"])
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = 0 if len(model.embed_documents(TEXTS).vectors) == len(TEXTS) else 2
            finally:
                os._exit(code)
        deadline = time.monotonic() + 20
        while (done := os.waitpid(pid, os.WNOHANG)) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(pid, 9)
            time.sleep(0.02)
        assert os.waitstatus_to_exitcode(done[1]) == 0
        model.embed_documents(["b"])  # the parent's still works


def test_a_text_that_is_no_unicode_is_named_before_anything_is_sent():
    with Loopback(right) as server:
        with pytest.raises(InputError, match=r"texts\[1\] holds half of a surrogate pair at 3"):
            embedder(server.url).embed_documents(["fine", "bad\udc00"])
        assert server.received == []


def test_own_headers_are_sent():
    with Loopback(right) as server:
        embedder(server.url, headers={"X-Team": "search"}).embed_documents(["a"])
        assert server.received[0].headers["x-team"] == "search"
        assert server.received[0].headers["user-agent"] == "qwen3-rag"


def test_unicode_goes_out_as_it_is():
    with Loopback(right) as server:
        embedder(server.url).embed_documents(["数据 🐟"])
        assert "数据 🐟".encode() in server.received[0].raw


def test_a_proxy_of_the_environment_is_used_and_its_exceptions_kept(monkeypatch):
    with Loopback(right) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        embedder("http://embeddings.invalid:8000").embed_documents(["a"])
        assert [received.path for received in proxy.received] == ["http://embeddings.invalid:8000/v1/embeddings"]
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with Loopback(right) as server:
            embedder(server.url).embed_documents(["a"])
            assert len(server.received) == len(proxy.received) == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    return key, cert


@pytest.fixture
def tls_server(certificate):
    key, cert = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = Loopback(right)
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    with server:
        yield server.url.replace("http:", "https:")


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_an_authority_of_the_environment_is_trusted(tls_server, certificate, monkeypatch, variable):
    monkeypatch.setenv(variable, str(certificate[1]))
    assert len(embedder(tls_server).embed_documents(["a"]).vectors) == 1


def test_an_unknown_authority_is_an_error_at_once(tls_server):
    start = time.perf_counter()
    with pytest.raises(RemoteConnectionError, match="Set SSL_CERT_FILE") as caught:
        embedder(tls_server).embed_documents(["a"])
    assert caught.value.attempts == 1
    assert time.perf_counter() - start < 2


def test_a_connection_that_nobody_accepts_ends_in_time():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:  # the queue is full, so that the next one gets no answer at all
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        limits = {"timeout": Timeouts(connect=0.3, read=0.3, total=1), "retries": RetryPolicy(attempts=2, base=0.01)}
        start = time.perf_counter()
        with pytest.raises(RemoteTimeoutError):
            embedder(url, **limits).embed_documents(["a"])
        assert time.perf_counter() - start < 2
        for client in waiting:
            client.close()
