"""Answers with citations over retrieved passages, without a framework and without a server: prompts, packing, checking."""

from qwen3_rag.answering.answer import Answer, Citation, Piece, ReasoningPiece, SourcePassage, TextPiece, known_score
from qwen3_rag.answering.citations import CitationReader, Mark
from qwen3_rag.answering.context import Packed, inert, inert_line, pack
from qwen3_rag.answering.options import AnswerOptions, RagOptions
from qwen3_rag.answering.prompts import QUOTED_RULE, Message, language_of
from qwen3_rag.answering.turn import AnswerTurn, Told, last_answer

__all__ = [
    "QUOTED_RULE",
    "Answer",
    "AnswerOptions",
    "AnswerTurn",
    "Citation",
    "CitationReader",
    "Mark",
    "Message",
    "Packed",
    "Piece",
    "RagOptions",
    "ReasoningPiece",
    "SourcePassage",
    "TextPiece",
    "Told",
    "inert",
    "inert_line",
    "known_score",
    "language_of",
    "last_answer",
    "pack",
]
