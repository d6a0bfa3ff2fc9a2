"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from qwen3_rag.models import DEFAULT_RERANKER_MODEL

COLLECTION = "qwen3_rag"
"""The collection that is searched if none is named."""

Uri = Annotated[str, typer.Option(envvar="MILVUS_URI", help="A file of Milvus Lite, or a server's address.")]
Token = Annotated[str | None, typer.Option(envvar="MILVUS_TOKEN", help="A server's credentials.", show_default=False)]
Metric = Annotated[str, typer.Option(help="How the collections compare vectors: COSINE, IP, or L2 of other tools.")]
Collections = Annotated[
    list[str] | None,
    typer.Option(
        "--collection",
        help=f"A collection that may be searched; once for each.  [default: {COLLECTION}]",
        show_default=False,
    ),
]
Model = Annotated[str, typer.Option(help="Embedding model: hub name, folder, or 'tiny' for the bundled one.")]
Reranker = Annotated[
    str | None,
    typer.Option(help=f"Reranking model.  [default: {DEFAULT_RERANKER_MODEL}, or 'tiny' with --model tiny]"),
]
Mode = Annotated[str, typer.Option(help="How candidates are found: dense, sparse (BM25) or hybrid.")]
Candidates = Annotated[int, typer.Option("-k", "--k", help="Candidates of each collection.")]
TopN = Annotated[int, typer.Option(help="Passages kept after reranking.")]
Threshold = Annotated[
    float | None, typer.Option("--score-threshold", help="Lowest P(yes) to keep, 0 to 1.", show_default=False)
]
Instruction = Annotated[str | None, typer.Option(help="What both models are told to look for.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Write one JSON object to standard output, and nothing else.")]
