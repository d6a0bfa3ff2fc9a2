"""What there is to read: files, folders, patterns, archives and addresses, turned into one list of text files."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from fnmatch import fnmatch
from functools import cache
from pathlib import Path, PurePath
from typing import TypeAlias
from zipfile import ZipFile

from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.ingest.archives import open_archive, read_entries
from qwen3_rag.ingest.download import download
from qwen3_rag.ingest.files import TextFile, UnreadableError, Wanted, is_text, suffixes
from qwen3_rag.ingest.limits import Limits
from qwen3_rag.ingest.report import Reading

Given: TypeAlias = str | os.PathLike[str]
"""A file, a folder, a pattern such as `docs/**/*.md`, a `.zip` archive, or an http(s) address of a file or an archive."""

_ARCHIVE_SUFFIX = ".zip"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def find(given: Given | Iterable[Given], wanted: Wanted, reading: Reading, stack: ExitStack) -> list[TextFile]:
    """Lists the files to read; one that is given twice is read once.

    Args:
        given: One or more of `Given`.
        wanted: Which files are wanted.
        reading: Told of folders and archived files that can't be read.
        stack: Gets what has to be closed or removed afterwards.

    Raises:
        ConfigurationError: If nothing is given.
        InputError: If something that was given does not exist, can't be read, or holds no text.
        DownloadError: If an address can't be downloaded.
    """
    things = [given] if isinstance(given, str | os.PathLike) else list(given)
    if not things:
        raise ConfigurationError("no path to ingest: give files, folders, patterns, archives or addresses")
    found: dict[str, TextFile] = {}
    for thing in things:
        for key, file in _find_one(os.fspath(thing), wanted, reading, stack):
            found.setdefault(key, file)
    return list(found.values())


_Found: TypeAlias = Iterable[tuple[str, TextFile]]
"""Files, each under a key that is the same for the same file."""


def _find_one(given: str, wanted: Wanted, reading: Reading, stack: ExitStack) -> _Found:
    if not given.strip():
        raise InputError(f"path {given!r} is empty: for the present folder give '.'")
    if (scheme := _SCHEME.match(given)) is not None:
        if scheme[1].lower() not in {"http", "https"}:
            raise InputError(f"can't read {scheme[0]!r} addresses: give an http:// or https:// address, or a path")
        return _from_address(given, wanted, reading, stack)
    try:
        return _from_path(given, wanted, reading, stack)
    except OSError as error:  # a name that is too long, a folder that may not be entered, a file that was just deleted
        raise InputError(f"can't read {given!r}: {error.strerror or error}") from error


def _from_path(given: str, wanted: Wanted, reading: Reading, stack: ExitStack) -> _Found:
    # Not `Path.expanduser`, which raises for `~name` where nobody has that name, and a file may.
    path = Path(os.path.expanduser(given))  # noqa: PTH111
    if path.is_dir():
        return _below(path, wanted, reading)
    if path.is_file():
        if path.suffix.lower() == _ARCHIVE_SUFFIX:
            archive = stack.enter_context(open_archive(path, str(path), wanted.limits))
            return _in_archive(archive, str(path), str(path.resolve()), wanted, reading)
        if not is_text(path):
            raise InputError(f"can't read {given!r}: only {suffixes()} files are text that can be ingested, and .zip")
        return [_local(path, path.name, wanted.root(path.name, str(path.resolve())), wanted.limits)]
    if glob.has_magic(given) and not path.exists():
        return _matching(path, wanted, reading)
    problem = "is no file" if path.exists() else "does not exist"
    raise InputError(f"path {str(path)!r} {problem}: give a {suffixes()} or .zip file, a folder or a pattern")


def _local(path: Path, source: str, root: str, limits: Limits) -> tuple[str, TextFile]:
    def read() -> bytes:
        size = path.stat().st_size
        if size > limits.file_bytes:
            raise UnreadableError(f"{size:,} bytes, more than the limit file_bytes={limits.file_bytes:,}")
        return path.read_bytes()

    return str(path.resolve()), TextFile(str(path), source, path.stat().st_size, root, read)


def _below(folder: Path, wanted: Wanted, reading: Reading) -> _Found:
    failed_before = len(reading.failed)
    root = wanted.root(folder.resolve().name, str(folder.resolve()))
    files = _texts(folder, _walk(folder, reading), root, wanted, reading)
    if not files and len(reading.failed) == failed_before:
        raise InputError(f"no {suffixes()} file in folder {str(folder)!r}{_that_match(wanted)}")
    return files


def _walk(folder: Path, reading: Reading) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        reading.fail(str(error.filename), error.strerror or error)

    for here, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(here, name) for name in names if not name.startswith("."))


def _texts(
    base: Path, paths: Iterable[Path], root: str, wanted: Wanted, reading: Reading
) -> list[tuple[str, TextFile]]:
    """Those of the paths that are wanted text files, in the order of their names."""
    named = {path.relative_to(base).as_posix(): path for path in paths if is_text(path)}
    return [
        _local(named[name], name, root, wanted.limits)
        for name in sorted(named)
        if wanted.takes(name) and _is_file(named[name], reading)
    ]


def _is_file(path: Path, reading: Reading) -> bool:
    """Whether there is a file to read. A link that leads nowhere is told of: its target may just not be mounted."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        reading.fail(str(path), error.strerror or error)
        return False


def _matching(pattern: Path, wanted: Wanted, reading: Reading) -> _Found:
    failed_before, parts = len(reading.failed), pattern.parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    base = Path(*parts[:fixed])
    root = wanted.root(base.resolve().name, str(base.resolve() / Path(*parts[fixed:])))
    files = _texts(base, _glob(base, parts[fixed:], _lister(reading)), root, wanted, reading)
    if not files and len(reading.failed) == failed_before:
        raise InputError(f"no {suffixes()} file matches the pattern {str(pattern)!r}{_that_match(wanted)}")
    return files


_List: TypeAlias = Callable[[Path], Sequence["os.DirEntry[str]"]]


def _glob(folder: Path, parts: Sequence[str], entries: _List) -> Iterator[Path]:
    """Matches a pattern part by part, some paths more than once.

    `Path.glob` passes over folders that it can't read in silence, so that what is in them would seem to be gone.
    """
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _glob(folder, rest or ("*",), entries)
    for entry in entries(folder):
        path = folder / entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        if part == "**":
            if is_folder:
                yield from _glob(path, parts, entries)
        elif fnmatch(entry.name, part):
            if not rest:
                yield path
            elif is_folder or entry.is_symlink():
                yield from _glob(path, rest, entries)


def _lister(reading: Reading) -> _List:
    """Lists folders, each once, without what is hidden; tells of those that can't be read."""

    @cache
    def entries(folder: Path) -> Sequence[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as found:
                return [entry for entry in found if not entry.name.startswith(".")]
        except OSError as error:
            nothing = isinstance(error, FileNotFoundError) and not folder.is_symlink()
            if not nothing and not isinstance(error, NotADirectoryError):
                reading.fail(str(folder), error.strerror or error)
            return []

    return entries


def _in_archive(archive: ZipFile, shown: str, identity: str, wanted: Wanted, reading: Reading) -> _Found:
    failed_before = len(reading.failed)
    root = wanted.root(PurePath(shown).name, identity)
    files = list(read_entries(archive, shown, root, wanted, reading))
    if not files and len(reading.failed) == failed_before:
        raise InputError(f"no {suffixes()} file in the archive {shown!r}{_that_match(wanted)}")
    return [(f"{identity}!/{file.source}", file) for file in files]


def _from_address(url: str, wanted: Wanted, reading: Reading, stack: ExitStack) -> _Found:
    fetched = download(url, wanted.limits, stack)
    if fetched.is_archive:
        archive = stack.enter_context(open_archive(fetched.path, fetched.shown, wanted.limits))
        return _in_archive(archive, fetched.shown, fetched.identity, wanted, reading)
    _, file = _local(fetched.path, fetched.name, wanted.root(fetched.name, fetched.identity), wanted.limits)
    return [(fetched.identity, TextFile(fetched.shown, file.source, file.size, file.root, file.read))]


def _that_match(wanted: Wanted) -> str:
    return "" if wanted.include is None else f" that matches include={wanted.include!r}"
