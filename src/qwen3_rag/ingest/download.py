"""A file or an archive from an http(s) address, into a folder that is removed again."""

from __future__ import annotations

import logging
import re
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from qwen3_rag.errors import InputError, Qwen3RagError
from qwen3_rag.ingest.files import is_text, suffixes
from qwen3_rag.ingest.limits import Limits

if TYPE_CHECKING:
    import httpx

_SUFFIX_OF_TYPE = {"text/markdown": ".md", "text/x-markdown": ".md", "text/plain": ".txt"}
_PAGES = frozenset({"text/html", "application/xhtml+xml"})
_PIECE = 2**16
_ARCHIVE_MARKS = (b"PK\3\4", b"PK\5\6")
_FILE_NAME = re.compile(r"""filename\s*=\s*(?:"([^"]*)"|([^;\s]+))""", re.IGNORECASE)
_FILE_NAME_UTF8 = re.compile(r"filename\*\s*=\s*UTF-8''([^;\s]+)", re.IGNORECASE)


class DownloadError(Qwen3RagError, ConnectionError):
    """An address can't be downloaded, and nothing of it was kept.

    Attributes:
        url: The address, without credentials and query.
        status: HTTP status, where there was one.
    """

    def __init__(self, message: str, *, url: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.url = url
        self.status = status


@dataclass(frozen=True, slots=True)
class Download:
    """What was downloaded.

    Attributes:
        path: Where it lies, until the ingest ends.
        name: Its name.
        shown: The address without credentials and query, for messages.
        identity: The address without credentials, which tells it from others. Its query may be a key: not for messages.
        is_archive: Whether it is a zip archive.
    """

    path: Path
    name: str
    shown: str
    identity: str
    is_archive: bool


def download(url: str, limits: Limits, stack: ExitStack) -> Download:
    """Downloads a file. Proxies are those of the environment (`HTTPS_PROXY`, `NO_PROXY`, …).

    Args:
        url: An http(s) address; credentials in it are sent, and never shown.
        limits: Size, time and redirects.
        stack: Removes the file when it is closed.

    Raises:
        InputError: If it is no address, or answers with something else than text or a zip archive.
        DownloadError: If the server can't be reached, refuses, breaks off, is too slow, redirects too often or sends too
            much, or if the file can't be written.
    """
    shown = _shown(url)
    try:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qwen3-rag-")))
    except OSError as error:
        raise DownloadError(f"can't keep {shown!r} in a temporary folder: {error}", url=shown) from error
    target = folder / "download"
    response = _fetch(url, shown, target, limits)
    with target.open("rb") as file:
        is_archive = file.read(4).startswith(_ARCHIVE_MARKS)
    query = urlsplit(url).query
    identity = f"{shown}?{query}" if query else shown
    return Download(target, _text_name(url, response, shown, is_archive), shown, identity, is_archive)


def _shown(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"this is no http(s) address: {error}") from None
    if not host:
        raise InputError(f"the address that begins with {parts.scheme + '://'!r} names no server")
    location = (f"[{host}]" if ":" in host else host) + ("" if port is None else f":{port}")
    return urlunsplit((parts.scheme.lower(), location, parts.path, "", ""))


def _fetch(url: str, shown: str, target: Path, limits: Limits) -> httpx.Response:
    import httpx

    until = time.monotonic() + limits.download_seconds
    try:
        with _unlogged(), _client(shown, limits) as client, client.stream("GET", url) as response:
            _check(response, shown)
            _write(response, shown, target, limits, until)
            return response
    except httpx.TooManyRedirects as error:
        raise DownloadError(f"{shown!r} redirects more than redirects={limits.redirects} times", url=shown) from error
    except httpx.TimeoutException as error:
        raise DownloadError(f"{shown!r}: no answer within timeout={limits.timeout:g} seconds", url=shown) from error
    except httpx.InvalidURL as error:
        raise InputError(f"{shown!r} is no http(s) address: {error}") from error
    except httpx.HTTPError as error:
        raise DownloadError(f"can't download {shown!r}: {error or type(error).__name__}", url=shown) from error
    except DownloadError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise DownloadError(f"can't keep {shown!r} in {str(target.parent)!r}: {reason}", url=shown) from error


def _client(shown: str, limits: Limits) -> httpx.Client:
    import httpx

    try:
        return httpx.Client(
            headers={"Accept-Encoding": "identity"},
            timeout=limits.timeout,
            follow_redirects=limits.redirects > 0,
            max_redirects=limits.redirects,
        )
    except (ImportError, OSError, ValueError) as error:
        message = f"can't download {shown!r} with the proxy or the certificates that the environment names: {error}"
        raise DownloadError(message, url=shown) from error


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keeps httpx from logging addresses with their credentials and queries, in this thread."""
    thread = threading.get_ident()

    def is_of_others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger = logging.getLogger("httpx")
    logger.addFilter(is_of_others)
    try:
        yield
    finally:
        logger.removeFilter(is_of_others)


def _check(response: httpx.Response, shown: str) -> None:
    if response.status_code != 200:  # noqa: PLR2004 - nothing else has the whole file
        reason = f"HTTP {response.status_code} {response.reason_phrase}".strip()
        raise DownloadError(f"can't download {shown!r}: {reason}", url=shown, status=response.status_code)
    if shown.startswith("https:") and any(hop.url.scheme != "https" for hop in (*response.history, response)):
        raise DownloadError(f"{shown!r} redirects to http, which anybody on the way can change", url=shown)
    if _media_type(response) in _PAGES:
        raise InputError(
            f"{shown!r} is a web page ({_media_type(response)}), not the file itself: give its raw address"
        )


def _write(response: httpx.Response, shown: str, target: Path, limits: Limits, until: float) -> None:
    size = 0
    with target.open("wb") as file:
        for piece in _unpacked(response, shown):
            size += len(piece)
            if size > limits.download_bytes:
                message = f"{shown!r} is larger than the limit download_bytes={limits.download_bytes:,}"
                raise DownloadError(message, url=shown)
            if time.monotonic() > until:
                message = f"{shown!r} takes longer than the limit download_seconds={limits.download_seconds:g}"
                raise DownloadError(message, url=shown)
            file.write(piece)


def _unpacked(response: httpx.Response, shown: str) -> Iterator[bytes]:
    """Yields the body in pieces that are small even if it was packed on the way, and empty ones while nothing comes out.

    httpx unpacks all that a packet holds at once, and as often as the server says: 800 bytes become 400 MB.

    Raises:
        DownloadError: If it is packed otherwise than by gzip, which some servers do unasked, or is broken.
    """
    encoding = str(response.headers.get("content-encoding", "identity")).strip().lower()
    if encoding == "identity":
        yield from response.iter_raw()
        return
    if encoding not in {"gzip", "x-gzip"}:
        raise DownloadError(f"{shown!r} is sent in the encoding {encoding!r}, which nobody asked for", url=shown)
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        for packed in response.iter_raw():
            rest = packed
            while rest and not unpack.eof:
                yield unpack.decompress(rest, _PIECE)
                rest = unpack.unconsumed_tail
        yield unpack.flush()
    except zlib.error as error:
        raise DownloadError(f"can't download {shown!r}: it is broken: {error}", url=shown) from error
    if not unpack.eof:
        raise DownloadError(f"can't download {shown!r}: it breaks off", url=shown)


def _media_type(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


def _text_name(url: str, response: httpx.Response, shown: str, is_archive: bool) -> str:
    """The name that a download is cited by: the server's, or the address's, with a suffix that says what it is."""
    names = [*_attached(response), _last(url), _last(str(response.url))]
    if is_archive:
        return next(filter(None, names), "download.zip")
    for name in names:
        if is_text(PurePosixPath(name)):
            return name
    suffix = _SUFFIX_OF_TYPE.get(_media_type(response))
    if suffix is None or any(PurePosixPath(name).suffix.lower() == ".zip" for name in names):
        kind = _media_type(response) or "an unknown type"
        raise InputError(f"{shown!r} is neither a {suffixes()} file nor a zip archive, but {kind}")
    return next(filter(None, names), "download") + suffix


def _attached(response: httpx.Response) -> list[str]:
    header = str(response.headers.get("content-disposition", ""))
    found = [unquote(match[1]) for match in _FILE_NAME_UTF8.finditer(header)]
    found += [match[1] or match[2] for match in _FILE_NAME.finditer(header)]
    return [PurePosixPath(name.replace("\\", "/")).name for name in found]


def _last(url: str) -> str:
    return PurePosixPath(unquote(urlsplit(url).path)).name
