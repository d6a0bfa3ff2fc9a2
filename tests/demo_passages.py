"""The package's own corpus, cut."""

from qwen3_rag.chunking import split_markdown
from qwen3_rag.demo import CORPUS
from qwen3_rag.types import Passage


def demo_passages() -> list[Passage]:
    """All passages, in the order of the files."""
    files = sorted(CORPUS.glob("*.md"))
    return [passage for path in files for passage in split_markdown(path.read_text("utf-8"), path.name)]
