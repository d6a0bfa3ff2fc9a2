"""Where to send, with which key.

Spelling and key are two questions. How a server speaks can be given (`dialect=`); whose key it gets follows from its host
alone: a key from the environment goes only to hosts of the vendor whose key it is, or to the server that the same
vendor's variables name. A gateway on another host gets a key only by `api_key=`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from qwen3_rag.errors import ConfigurationError
from qwen3_rag.models.hosts import (
    DASHSCOPE_COMPATIBLE_URL_ENV,
    DASHSCOPE_KEY_FILE_ENV,
    DASHSCOPE_WORKSPACE_ENV,
    dashscope_key_file,
    dashscope_origin,
    dashscope_origin_from,
)
from qwen3_rag.thinking.dialects import DIALECTS, Dialect, find_dialect, match_host, match_port

NO_KEY: Final = "EMPTY"
"""What is sent as the key where none is needed; the `openai` package would else look for one by itself."""

_DASHSCOPE: Final = DIALECTS["dashscope"]
_URL_ENV: Final = (DASHSCOPE_COMPATIBLE_URL_ENV, "DASHSCOPE_API_BASE")
_CHAT_PATH: Final = "/compatible-mode/v1"
_PLACEHOLDER: Final = re.compile(r"\{workspace_?id\}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server, how it speaks, and the key that it is sent.

    Attributes:
        base_url: Up to and without `/chat/completions`, and without a slash at its end.
        dialect: How it speaks.
        api_key: The key; never printed. `"EMPTY"` for a server that needs none.
    """

    base_url: str
    dialect: Dialect
    api_key: SecretStr = field(repr=False)


def resolve_endpoint(
    *,
    base_url: str | None = None,
    region: str | None = None,
    workspace_id: str | None = None,
    dialect: str | None = None,
    api_key: str | SecretStr | None = None,
    env: Mapping[str, str] = os.environ,
) -> Endpoint:
    """Finds server, dialect and key from what is given and, for the rest, from the environment.

    The URL is `base_url`; else the one of `region` and `workspace_id`; else, for another dialect than DashScope's, where
    such a server usually is; else `DASHSCOPE_COMPATIBLE_BASE_URL` or `DASHSCOPE_API_BASE`; else the one of
    `DASHSCOPE_API_REGION` and, outside Beijing, `DASHSCOPE_WORKSPACE_ID`; else DashScope in Beijing. A workspace has a host
    of its own, which DashScope recommends.

    Args:
        base_url: The server's URL, up to and without `/chat/completions`. `{workspace_id}` in it is filled in.
        region: A region of DashScope by its name or an alias, as `"ap-southeast-1"` or `"intl"`; all of them stand in
            `qwen3_rag.models.hosts`.
        workspace_id: A workspace of DashScope.
        dialect: Name of the server's dialect; else it follows from the URL.
        api_key: The key; else it comes from the vendor's environment variable, for DashScope `DASHSCOPE_API_KEY` or the
            file that `DASHSCOPE_API_KEY_FILE_PATH` names. Local servers need none.
        env: The environment.

    Raises:
        ConfigurationError: If the arguments contradict each other, an URL or a region can't be, or a key is missing.
    """
    _check_together(base_url, region, workspace_id, dialect)
    url, from_env = _find_url(base_url, region, workspace_id, dialect, env)
    url = _checked_url(_filled(url, workspace_id or env.get(DASHSCOPE_WORKSPACE_ENV)))
    owner = match_host(url)
    # A gateway that DashScope's own variables name speaks as DashScope does.
    guessed = (owner or match_port(url) or _DASHSCOPE) if from_env and dialect is None else None
    spoken = guessed or find_dialect(url, dialect)
    holder = owner or (_DASHSCOPE if from_env and spoken is _DASHSCOPE else None)
    key = _given_key(api_key) or (_key_from_env(holder, env) if holder else None)
    if key is None and (spoken.needs_key or (holder and holder.key_env)):
        raise ConfigurationError(_missing_key(url, holder, spoken))
    return Endpoint(url, spoken, SecretStr(key or NO_KEY))


def _check_together(base_url: str | None, region: str | None, workspace_id: str | None, dialect: str | None) -> None:
    if base_url is not None and region is not None:
        raise ConfigurationError(f"base_url {base_url!r} and region {region!r} both say where to send: give one")
    if base_url is not None and workspace_id is not None and not _PLACEHOLDER.search(base_url):
        raise ConfigurationError(
            f"base_url {base_url!r} has no place for workspace_id {workspace_id!r}: write {{workspace_id}} in it, or give "
            "region= instead of base_url="
        )
    if dialect not in (None, "dashscope") and (region or workspace_id) and base_url is None:
        raise ConfigurationError(
            f"region and workspace_id belong to DashScope, and dialect is {dialect!r}: leave them out"
        )


def _find_url(
    base_url: str | None, region: str | None, workspace_id: str | None, dialect: str | None, env: Mapping[str, str]
) -> tuple[str, bool]:
    """Returns the URL, and whether it is from DashScope's variables, where the key of DashScope may go too."""
    if base_url is not None:
        return base_url, False
    if dialect not in (None, "dashscope"):
        kind = find_dialect("", dialect)
        if kind.base_url is None:
            raise ConfigurationError(f"{kind.label} has no usual address: pass base_url= with dialect={dialect!r}")
        return kind.base_url, False
    named = next((env[name] for name in _URL_ENV if env.get(name)), None)
    if named and region is None and workspace_id is None:
        return named, True
    return dashscope_origin_from(env, region, workspace_id) + _CHAT_PATH, False


def _filled(url: str, workspace_id: str | None) -> str:
    """Writes the workspace into a URL as the vendor's documentation prints it."""
    if not _PLACEHOLDER.search(url):
        return url
    if not workspace_id:
        raise ConfigurationError(
            f"the URL {url!r} needs a workspace: pass workspace_id= or set {DASHSCOPE_WORKSPACE_ENV}"
        )
    dashscope_origin(workspace_id=workspace_id)  # refuses what would break out of the host
    return _PLACEHOLDER.sub(workspace_id, url)


def _checked_url(url: str) -> str:
    url = url.strip().rstrip("/")
    if not url.isprintable() or " " in url:
        raise ConfigurationError(f"base_url must be a URL such as http://localhost:8000/v1, got {url!r}")
    owner = match_host(url)
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise ConfigurationError(f"base_url of {parts.hostname!r} holds a user or password: pass the key as api_key=")
    if parts.scheme not in ("http", "https"):
        raise ConfigurationError(f"base_url must begin with http:// or https://, got {url!r}")
    if parts.query or parts.fragment or parts.path.endswith("/chat/completions"):
        raise ConfigurationError(f"base_url ends before /chat/completions, '?' and '#', got {url!r}")
    if owner and parts.scheme == "http":
        raise ConfigurationError(f"{url!r} would send the key of {owner.label} unencrypted: use https://")
    if owner is _DASHSCOPE and not parts.path.startswith("/compatible-mode/"):
        raise ConfigurationError(f"DashScope speaks this protocol under {_CHAT_PATH}, got {url!r}")
    return url


def _given_key(api_key: str | SecretStr | None) -> str | None:
    if api_key is None:
        return None
    return _checked_key(api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key, "api_key")


def _key_from_env(holder: Dialect, env: Mapping[str, str]) -> str | None:
    name = next((name for name in holder.key_env if env.get(name)), None)
    if name:
        return _checked_key(env[name], name)
    held = dashscope_key_file(env) if holder is _DASHSCOPE else None
    return None if held is None else _checked_key(held, f"the file {env[DASHSCOPE_KEY_FILE_ENV]!r}")


def _checked_key(key: str, where: str) -> str:
    """Refuses what can't be a header's value, without printing it: the HTTP library would, in its error."""
    if not isinstance(key, str):
        raise ConfigurationError(f"{where} must be a string or a SecretStr, got {type(key).__name__}")
    key = key.strip()
    if not key:
        raise ConfigurationError(f"{where} is empty; it must hold the key")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigurationError(
            f"{where} holds characters that no key has (spaces, line breaks, letters beyond ASCII)"
        )
    return key


def _missing_key(url: str, holder: Dialect | None, spoken: Dialect) -> str:
    if holder is None:
        return (
            f"{url!r} is no host of {spoken.label}, so no key from the environment is sent there: pass api_key= (or "
            f"api_key={NO_KEY!r} if the server wants none)"
        )
    file = f", name a file that holds it in {DASHSCOPE_KEY_FILE_ENV}" if holder is _DASHSCOPE else ""
    return f"{holder.label} needs a key: set the environment variable {holder.key_env[0]}{file}, or pass api_key="
