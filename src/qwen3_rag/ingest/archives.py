"""Text files of `.zip` archives, read as streams: nothing is ever unpacked to disk.

So a path that leads out of the archive can't be written anywhere; it is refused all the same, because it is no source
that could be cited. Sizes are checked twice: as the archive tells them, and as they come out.
"""

from __future__ import annotations

import re
import stat
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from qwen3_rag.errors import InputError
from qwen3_rag.ingest.files import TextFile, UnreadableError, Wanted, is_hidden, is_text
from qwen3_rag.ingest.limits import Limits
from qwen3_rag.ingest.report import Reading

_INNER_ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"})
_ENCRYPTED = 0x1
_UTF8 = 0x800
_RATIO_FROM = 2**20
"""Smaller files are not judged by their ratio: a page of blanks packs well."""
_BYTES_PER_ENTRY = 512
"""Of the directory; 46 and the name are usual."""
_BOUNDED = frozenset({ZIP_STORED, ZIP_DEFLATED})
"""Of the others `zipfile` unpacks an entry as a whole before it looks at the size: 540 bytes of bzip2 are 400 MB."""
_BROKEN = (BadZipFile, zlib.error, struct.error, EOFError, ValueError, OverflowError, RuntimeError)
"""What `zipfile` raises for bytes that are no archive, and for what it does not know: a `NotImplementedError` is the last."""
_DRIVE = re.compile(r"[A-Za-z]:")

# APPNOTE.TXT, sections 4.3.14 to 4.3.16: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
_END = struct.Struct("<4s4H2LH")
_END_64_LOCATOR = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LONGEST_COMMENT = 0xFFFF


def open_archive(path: Path, shown: str, limits: Limits) -> ZipFile:
    """Opens an archive after a look at the size of its directory, which is read as a whole.

    Args:
        path: The file.
        shown: How messages call it.
        limits: How many entries it may have.

    Raises:
        InputError: If it is no archive, is broken, or has too many entries.
    """
    try:
        entries, size = _directory(path)
        if entries <= limits.archive_entries and size <= limits.archive_entries * _BYTES_PER_ENTRY:
            archive = ZipFile(path)
            entries = len(archive.filelist)  # of which the directory's end may say less
            if entries <= limits.archive_entries:
                return archive
            archive.close()
    except _BROKEN as error:
        raise InputError(f"can't read {shown!r}: it is no zip archive, or a broken one ({error})") from error
    except OSError as error:
        raise InputError(f"can't read {shown!r}: {error.strerror or error}") from error
    raise InputError(
        f"the archive {shown!r} has {entries:,} entries in a directory of {size:,} bytes, more than the limit "
        f"archive_entries={limits.archive_entries:,}"
    )


def read_entries(archive: ZipFile, shown: str, root: str, wanted: Wanted, reading: Reading) -> Iterator[TextFile]:
    """Yields the text files of an archive in the order of their names.

    Args:
        archive: The open archive.
        shown: How messages call it.
        root: Label of what is found.
        wanted: Which files are wanted, and what is too large.
        reading: Told of files that can't be read, links and inner archives.

    Raises:
        InputError: If all files together are over the limit.
    """
    entries: dict[str, ZipInfo] = {}
    for info in archive.infolist():
        name = _name(info)
        if not info.is_dir() and _is_wanted(name, f"{shown}!/{name}", wanted, reading):
            problem = "its name is there twice" if name in entries else _problem(name, info, wanted.limits)
            if stat.S_ISLNK(info.external_attr >> 16):
                reading.skip(f"{shown}!/{name}", "it is a link")
            elif problem:
                reading.fail(f"{shown}!/{name}", problem)
            else:
                entries[name] = info
    total = sum(info.file_size for info in entries.values())
    if total > wanted.limits.archive_bytes:
        raise InputError(
            f"the text files of the archive {shown!r} are {total:,} bytes together, more than the limit "
            f"archive_bytes={wanted.limits.archive_bytes:,}"
        )
    for name in sorted(entries):
        read = _Entry(archive, entries[name], wanted.limits)
        yield TextFile(f"{shown}!/{name}", name, entries[name].file_size, root, read)


def _is_wanted(name: str, shown: str, wanted: Wanted, reading: Reading) -> bool:
    path = PurePosixPath(name)
    if is_hidden(name) or not wanted.takes(name):
        return False
    if path.suffix.lower() in _INNER_ARCHIVES:
        reading.skip(shown, "it is an archive inside an archive, which is not opened: unpack it and give it by itself")
    return is_text(path)


def _problem(name: str, info: ZipInfo, limits: Limits) -> str:
    """Says why an entry is refused, or nothing."""
    if name.startswith("/") or _DRIVE.match(name) or ".." in PurePosixPath(name).parts:
        return "its path leads out of the archive"
    if info.flag_bits & _ENCRYPTED:
        return "it is encrypted: unpack it and give the file"
    if info.compress_type not in _BOUNDED:
        return f"it is packed by method {info.compress_type}, and only deflate is read: unpack it and give the file"
    if info.file_size > limits.file_bytes:
        return f"{info.file_size:,} bytes, more than the limit file_bytes={limits.file_bytes:,}"
    if info.file_size > _RATIO_FROM and info.file_size > limits.archive_ratio * max(1, info.compress_size):
        return (
            f"{info.compress_size:,} bytes unpack to {info.file_size:,}, more than the limit "
            f"archive_ratio={limits.archive_ratio}"
        )
    return ""


class _Entry:
    """Reads one entry."""

    def __init__(self, archive: ZipFile, info: ZipInfo, limits: Limits) -> None:
        self._archive = archive
        self._info = info
        self._limits = limits

    def __call__(self) -> bytes:
        """Returns its bytes, of which `zipfile` has checked the number and the checksum."""
        limit = self._limits.file_bytes
        try:
            with self._archive.open(self._info) as stream:
                data = stream.read(limit + 1)
        except _BROKEN as error:
            raise UnreadableError(f"it is broken: {error}") from error
        if len(data) > limit:
            raise UnreadableError(f"more than the limit file_bytes={limit:,}")
        return data


def _name(info: ZipInfo) -> str:
    """The path of an entry; many tools write UTF-8 without saying so, and backslashes where the format has slashes."""
    name = info.filename
    if not info.flag_bits & _UTF8:
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            name = info.filename
    return name.replace("\\", "/")


def _directory(path: Path) -> tuple[int, int]:
    """Returns how many entries the directory says that it has, and its size in bytes; the most, if it says so twice."""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        start = file.seek(max(0, end - _END.size - _LONGEST_COMMENT))
        tail = file.read()
        at = tail.rfind(b"PK\5\6")
        if at < 0:
            raise BadZipFile("it has no directory")
        _, _, _, _, entries, size, _, _ = _END.unpack_from(tail, at)
        long = [_END_64.unpack(record) for record in _long_ends(file, start + at - _END_64_LOCATOR.size)]
        return (max(end[7] for end in long), max(end[8] for end in long)) if long else (entries, size)


def _long_ends(file: BinaryIO, locator: int) -> Iterator[bytes]:
    """Yields the records of a large archive that may be taken for the end of its directory.

    The versions of `zipfile` differ: they look right before the locator, or where it says (CVE-2025-8291).
    """
    if locator < 0:
        return
    file.seek(locator)
    mark, _, offset, _ = _END_64_LOCATOR.unpack(file.read(_END_64_LOCATOR.size))
    for place in (locator - _END_64.size, offset) if mark == b"PK\6\7" else ():
        file.seek(max(0, place))
        record = file.read(_END_64.size)
        if record.startswith(b"PK\6\6") and len(record) == _END_64.size:
            yield record
