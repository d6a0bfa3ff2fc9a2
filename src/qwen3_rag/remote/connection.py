"""From options and environment to a client: which host, which key, which limits."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, TypedDict

import httpx
from pydantic import SecretStr

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.models.hosts import (
    DASHSCOPE_COMPATIBLE_URL_ENV,
    DASHSCOPE_HTTP_URL_ENV,
    dashscope_key_file,
    dashscope_origin_from,
    is_dashscope_host,
)
from qwen3_rag.remote.http import HttpClient, check_key
from qwen3_rag.remote.limits import RateLimit
from qwen3_rag.remote.retry import RetryPolicy
from qwen3_rag.remote.servers import Server
from qwen3_rag.remote.timeouts import Timeouts


class ConnectionOptions(TypedDict, total=False):
    """What every remote model takes about its connection.

    Attributes:
        base_url: Scheme and host, with the server's path prefix if it has one.
        api_key: The key. Left out, it is read from the environment, and then goes to the vendor's own hosts only.
        region: DashScope: name of the region.
        workspace_id: DashScope: workspace, which has a host of its own.
        headers: Further headers of every request.
        timeout: Seconds for one request with all its attempts, or all deadlines.
        retries: When a request is sent again.
        rate_limit: How fast requests leave.
        concurrency: How many are on their way at once.
    """

    base_url: str | None
    api_key: str | SecretStr | None
    region: str | None
    workspace_id: str | None
    headers: Mapping[str, str] | None
    timeout: Timeouts | float | None
    retries: RetryPolicy | None
    rate_limit: RateLimit | None
    concurrency: int


_MOST_AT_ONCE = 256
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2


def connect(server: Server, options: ConnectionOptions, env: Mapping[str, str] | None = None) -> HttpClient:
    """Makes a client; nothing is opened yet.

    Args:
        server: Which kind of server.
        options: As the user gave them.
        env: The environment; `None` is the process's.

    Raises:
        ConfigurationError: If an option can't work, or a key is needed and there is none.
    """
    environment = os.environ if env is None else env
    if unknown := options.keys() - ConnectionOptions.__annotations__.keys():
        known = ", ".join(ConnectionOptions.__annotations__)
        raise ConfigurationError(f"unknown option {', '.join(map(repr, sorted(unknown)))}: a connection takes {known}")
    url = _base_url(server, options, environment)
    concurrency = options.get("concurrency", 8)
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or not 1 <= concurrency <= _MOST_AT_ONCE:
        raise ConfigurationError(f"concurrency must be between 1 and {_MOST_AT_ONCE}, got {concurrency!r}")
    timeout = options.get("timeout")
    return HttpClient(
        server=f"{server.title} at {url.host}",
        base_url=str(url).rstrip("/"),
        api_key=_key(server, url, options.get("api_key"), environment),
        headers=_headers(options.get("headers")),
        timeouts=None if timeout is None else Timeouts.of(timeout),
        retries=_checked(options, "retries", RetryPolicy),
        rate_limit=_checked(options, "rate_limit", RateLimit),
        concurrency=concurrency,
    )


def _base_url(server: Server, options: ConnectionOptions, env: Mapping[str, str]) -> httpx.URL:
    given = options.get("base_url")
    place = (options.get("region"), options.get("workspace_id"))
    if any(place) and (given or server.name != "dashscope"):
        raise ConfigurationError("region and workspace_id choose a DashScope host, so they go without base_url")
    text = given or server.base_url or _dashscope_url(*place, env)
    for end in server.repeated:
        text = text.rstrip("/").removesuffix(end)
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, TypeError) as error:
        raise ConfigurationError(f"base_url must be a URL such as 'http://localhost:8000', got {text!r}") from error
    if url.userinfo or url.query or url.fragment:  # perhaps secrets, so they are not repeated
        raise ConfigurationError("base_url must hold no user, password or query: pass api_key= or headers=")
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError(f"base_url must be http(s)://host[:port][/prefix], got {text!r}")
    return url


def _dashscope_url(region: str | None, workspace_id: str | None, env: Mapping[str, str]) -> str:
    if region is None and workspace_id is None:
        url = env.get(DASHSCOPE_HTTP_URL_ENV) or env.get(DASHSCOPE_COMPATIBLE_URL_ENV)
        if url and "{" not in url:
            return url
    return dashscope_origin_from(env, region, workspace_id)


def _key(server: Server, url: httpx.URL, given: str | SecretStr | None, env: Mapping[str, str]) -> SecretStr | None:
    if given is not None:
        return check_key(given if isinstance(given, SecretStr) else SecretStr(given))
    if _may_have_key(server, url.host):
        found = env.get(server.key_env or "") or (dashscope_key_file(env) if server.name == "dashscope" else None)
        if found:
            return check_key(SecretStr(found.strip()))
        if server.needs_key:
            raise ConfigurationError(f"{server.title} needs a key: pass api_key= or set {server.key_env}")
    elif server.needs_key:
        raise ConfigurationError(
            f"{url.host} is no host of {server.title}'s, so the key in {server.key_env} is not sent there: pass api_key="
        )
    return None


def _may_have_key(server: Server, host: str) -> bool:
    if server.name == "dashscope":
        return is_dashscope_host(host)
    return any(host == known or (known.startswith(".") and host.endswith(known)) for known in server.key_hosts)


def _headers(given: Mapping[str, str] | None) -> dict[str, str]:
    """Returns the headers, or says which of them can't be sent, without its value, which may be a secret."""
    headers = {} if given is None else given
    if not isinstance(headers, Mapping):
        raise ConfigurationError(f"headers must be a dict of names and values, got {type(headers).__name__}")
    for name, value in headers.items():
        if not (isinstance(name, str) and _HEADER_NAME.fullmatch(name)):
            raise ConfigurationError(f"{name!r} is no name of a header")
        if not (isinstance(value, str) and value.isascii() and value.isprintable()):
            raise ConfigurationError(f"the header {name!r} must be a string of printable ASCII characters")
    return dict(headers)


def _checked(options: ConnectionOptions, name: str, kind: type[Any]) -> Any:
    value = options.get(name)
    if value is not None and not isinstance(value, kind):
        raise ConfigurationError(f"{name} must be a {kind.__name__}, got {value!r}")
    return value
