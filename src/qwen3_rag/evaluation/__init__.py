"""How good retrieval is: figures from rankings, questions with known answers, and a run of both stages over them."""

from qwen3_rag.evaluation.metrics import (
    RetrievalReport,
    evaluate,
    mean_reciprocal_rank,
    mrr_at_k,
    ndcg_at_k,
    recall_at_k,
)
from qwen3_rag.evaluation.questions import Question, Section, read_questions
from qwen3_rag.evaluation.run import Evaluation, evaluate_collection

__all__ = [
    "Evaluation",
    "Question",
    "RetrievalReport",
    "Section",
    "evaluate",
    "evaluate_collection",
    "mean_reciprocal_rank",
    "mrr_at_k",
    "ndcg_at_k",
    "read_questions",
    "recall_at_k",
]
