"""How long a request may take."""

from __future__ import annotations

from dataclasses import dataclass

from qwen3_rag.remote.retry import check_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Deadlines in seconds.

    Attributes:
        connect: For a connection, the TLS handshake included.
        read: For the next bytes of an answer; a long computation on the server's side counts.
        total: For one request with all its attempts and the waits between them, but not the wait for its turn where
            `concurrency` or `rate_limit` make it queue. A call may take many requests.
    """

    connect: float = 10.0
    read: float = 120.0
    total: float = 300.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            check_seconds(name, getattr(self, name))

    @classmethod
    def of(cls, value: Timeouts | float) -> Timeouts:
        """Takes one number as `total`, of which no part can take longer."""
        if isinstance(value, Timeouts):
            return value
        check_seconds("timeout", value)
        default = cls()
        return cls(connect=min(default.connect, value), read=min(default.read, value), total=value)
