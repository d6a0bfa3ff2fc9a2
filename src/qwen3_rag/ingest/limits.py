"""How much an ingest takes from strangers: sizes of files, archives and downloads."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from qwen3_rag.errors import ConfigurationError

_MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits that keep a broken or hostile input from filling memory or disk.

    Attributes:
        file_bytes: Largest text file, plain or unpacked; a file is in memory as a whole while it is cut.
        archive_bytes: All files of an archive together, unpacked.
        archive_entries: Entries of an archive.
        archive_ratio: How many times larger a file of an archive of more than a mebibyte may be than it is packed. Prose
            has 3 to 10; deflate reaches 1,000 on a bomb.
        download_bytes: Size of a download, unpacked if the server compresses it on the way.
        download_seconds: Time for a whole download, looked at with every piece of it.
        timeout: Seconds that a server may be silent.
        redirects: How often a server may send elsewhere.

    Raises:
        ConfigurationError: If one is not a positive number (`redirects` may be 0).
    """

    file_bytes: int = 64 * _MIB
    archive_bytes: int = 2048 * _MIB
    archive_entries: int = 100_000
    archive_ratio: int = 200
    download_bytes: int = 1024 * _MIB
    download_seconds: float = 3600.0
    timeout: float = 30.0
    redirects: int = 5

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            kinds = (int, float) if isinstance(field.default, float) else (int,)
            number = not isinstance(value, bool) and isinstance(value, kinds) and 0 <= value < math.inf
            if not number or (value == 0 and field.name != "redirects"):
                raise ConfigurationError(f"limit {field.name} must be a positive number, got {value!r}")
