"""The command `collections`: what a database has, and what wrote it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from rich import box
from rich.table import Table
from rich.text import Text

from qwen3_rag.cli import view
from qwen3_rag.cli.options import AsJson, Token, Uri
from qwen3_rag.milvus import CollectionInfo, list_collections

_NONE: Final = "-"


def collections_command(
    *,
    uri: Uri = "./milvus.db",
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """List the collections of a database, the model that wrote each, and those that can't be searched, with the reason."""
    found = list_collections(uri, token=token)
    if as_json:
        view.show_json({"collections": [asdict(info) for info in found]})
    else:
        _show(found)


def _show(found: list[CollectionInfo]) -> None:
    out = view.console()
    if not found:
        out.print("There are no collections.")
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("collection", "rows", "model", "dimensions", "metric", "index", "sparse", "written by"):
        table.add_column(name, justify="right" if name in {"rows", "dimensions"} else "left", overflow="fold")
    for info in found:
        table.add_row(*map(Text, _cells(info)))
    out.print(table)
    for info in found:
        if info.problem is not None:
            out.print(Text(f"\n{info.name} can't be searched by qwen3-rag: {info.problem}"))


def _cells(info: CollectionInfo) -> list[str]:
    contract = info.contract
    if info.problem is not None:
        return [info.name, str(info.rows), *[_NONE] * 6]
    model = "not said" if contract is None else contract.model
    if contract is not None and contract.revision is not None:
        model += f"@{contract.revision}"
    return [
        info.name,
        str(info.rows),
        model,
        _NONE if info.dimensions is None else str(info.dimensions),
        info.metric or _NONE,
        info.index_type or _NONE,
        info.sparse or _NONE,
        "another tool" if contract is None else f"qwen3-rag {contract.version}",
    ]
