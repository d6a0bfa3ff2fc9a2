"""Where DashScope (Alibaba Cloud Model Studio) is, by region and workspace.

Sources: https://www.alibabacloud.com/help/model-studio/base-url (October 2026) and `dashscope/common/env.py` of the
vendor's SDK 2.0.2, whose names of environment variables are used here too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from qwen3_rag.errors import ConfigurationError

DASHSCOPE_KEY_ENV = "DASHSCOPE_API_KEY"
DASHSCOPE_KEY_FILE_ENV = "DASHSCOPE_API_KEY_FILE_PATH"
DASHSCOPE_REGION_ENV = "DASHSCOPE_API_REGION"
DASHSCOPE_WORKSPACE_ENV = "DASHSCOPE_WORKSPACE_ID"
DASHSCOPE_HTTP_URL_ENV = "DASHSCOPE_HTTP_BASE_URL"
DASHSCOPE_COMPATIBLE_URL_ENV = "DASHSCOPE_COMPATIBLE_BASE_URL"

DASHSCOPE_DEFAULT_REGION = "cn-beijing"

DASHSCOPE_HOST_SUFFIXES = ("dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com", "dashscope-us.aliyuncs.com")
"""Hosts that take a key of any workspace of their region; the first also has regional subdomains."""

DASHSCOPE_WORKSPACE_SUFFIX = ".maas.aliyuncs.com"
"""`{workspace}.{region}` stands before it."""

DASHSCOPE_PATHS = ("/compatible-mode/v1", "/compatible-api/v1", "/api/v1")
"""Faces of one host: OpenAI's chat and embeddings, OpenAI-like reranking, and the vendor's own API."""


@dataclass(frozen=True, slots=True)
class DashScopeRegion:
    """One region.

    Attributes:
        name: The vendor's name, which is part of the workspaces' hosts.
        shared_host: The host for keys of any workspace, where the region has one.
        aliases: Other names that people use.
    """

    name: str
    shared_host: str | None
    aliases: tuple[str, ...] = ()


DASHSCOPE_REGIONS = (
    DashScopeRegion("cn-beijing", "dashscope.aliyuncs.com", ("cn", "beijing", "china")),
    DashScopeRegion("ap-southeast-1", "dashscope-intl.aliyuncs.com", ("intl", "international", "singapore", "sg")),
    DashScopeRegion("us-east-1", "dashscope-us.aliyuncs.com", ("us", "virginia")),
    DashScopeRegion("cn-hongkong", "cn-hongkong.dashscope.aliyuncs.com", ("hongkong", "hk")),
    DashScopeRegion("eu-central-1", None, ("eu", "frankfurt")),
    DashScopeRegion("ap-northeast-1", None, ("tokyo", "jp")),
)

_BY_NAME = MappingProxyType({name: region for region in DASHSCOPE_REGIONS for name in (region.name, *region.aliases)})
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?")


def dashscope_region(name: str) -> DashScopeRegion:
    """Looks a region up by its name or an alias; a well-formed name that is not listed is taken as a new region.

    Raises:
        ConfigurationError: If the name can't be part of a host.
    """
    known = _BY_NAME.get(name.strip().lower())
    if known is not None:
        return known
    if _LABEL.fullmatch(name) is None:
        raise ConfigurationError(f"region must be one of {', '.join(r.name for r in DASHSCOPE_REGIONS)}, got {name!r}")
    return DashScopeRegion(name.lower(), None)


def dashscope_origin(region: str | None = None, workspace_id: str | None = None) -> str:
    """Returns scheme and host of a region, of the workspace's own host where a workspace is named.

    Args:
        region: Name or alias; `None` is Beijing.
        workspace_id: Identifier of the workspace that the key belongs to.

    Raises:
        ConfigurationError: If a name can't be part of a host, or the region has workspace hosts only.
    """
    found = dashscope_region(region or DASHSCOPE_DEFAULT_REGION)
    if workspace_id is not None:
        if _LABEL.fullmatch(workspace_id) is None:  # it becomes a part of the host: nothing may break out of it
            raise ConfigurationError(f"workspace_id must be letters, digits, '-' and '_', got {workspace_id!r}")
        return f"https://{workspace_id}.{found.name}{DASHSCOPE_WORKSPACE_SUFFIX}"
    if found.shared_host is None:
        raise ConfigurationError(
            f"region {found.name!r} has no shared host: pass workspace_id= or set {DASHSCOPE_WORKSPACE_ENV}"
        )
    return f"https://{found.shared_host}"


def dashscope_origin_from(env: Mapping[str, str], region: str | None = None, workspace_id: str | None = None) -> str:
    """Returns scheme and host as `dashscope_origin` does, with what is not given taken from the environment.

    As the vendor's SDK has it, a workspace in the environment does not change the host in the default region.

    Args:
        env: The environment.
        region: Name or alias.
        workspace_id: Identifier of the workspace.

    Raises:
        ConfigurationError: As `dashscope_origin`.
    """
    name = dashscope_region(region or env.get(DASHSCOPE_REGION_ENV) or DASHSCOPE_DEFAULT_REGION).name
    if workspace_id is None and name != DASHSCOPE_DEFAULT_REGION:
        workspace_id = env.get(DASHSCOPE_WORKSPACE_ENV) or None
    return dashscope_origin(name, workspace_id)


def dashscope_key_file(env: Mapping[str, str]) -> str | None:
    """Returns the key in the file that the environment names, or `None` if it names none.

    Raises:
        ConfigurationError: If the file can't be read.
    """
    path = env.get(DASHSCOPE_KEY_FILE_ENV)
    if not path:
        return None
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{DASHSCOPE_KEY_FILE_ENV} names {path!r}, which can't be read: {error}") from error


def is_dashscope_host(host: str) -> bool:
    """Whether a host belongs to DashScope, so that its key may go there."""
    host = host.lower().rstrip(".")
    return host.endswith(DASHSCOPE_WORKSPACE_SUFFIX) or any(
        host == suffix or host.endswith(f".{suffix}") for suffix in DASHSCOPE_HOST_SUFFIXES
    )
