"""Files, folders, archives and addresses into a collection: pipelined, resumable, in bounded memory."""

from qwen3_rag.ingest.download import DownloadError
from qwen3_rag.ingest.files import SUFFIXES
from qwen3_rag.ingest.limits import Limits
from qwen3_rag.ingest.report import FileFailure, IngestProgress, IngestReport, RowFailure
from qwen3_rag.ingest.run import BATCH_SIZE, ingest
from qwen3_rag.ingest.splitting import Piece, SplitFunction, Splitter, split_at

__all__ = [
    "BATCH_SIZE",
    "SUFFIXES",
    "DownloadError",
    "FileFailure",
    "IngestProgress",
    "IngestReport",
    "Limits",
    "Piece",
    "RowFailure",
    "SplitFunction",
    "Splitter",
    "ingest",
    "split_at",
]
