"""What "think" means, for every server and both frameworks: decided, sent, read, healed and paid for in one place."""

from qwen3_rag.thinking.auto import thinks
from qwen3_rag.thinking.budget import Entry, Grant, Price, ThinkingBudget
from qwen3_rag.thinking.dialects import DIALECTS, Dialect, Request, find_dialect
from qwen3_rag.thinking.endpoints import Endpoint, resolve_endpoint
from qwen3_rag.thinking.failures import to_error
from qwen3_rag.thinking.healing import LEARNED, Fix, Learned, find_fix
from qwen3_rag.thinking.history import outgoing
from qwen3_rag.thinking.plan import Call, Plan, heal, plan
from qwen3_rag.thinking.policy import (
    EFFORT_BUDGETS,
    AutoRule,
    Decision,
    Effort,
    Evidence,
    HistoryMode,
    Thinking,
    ThinkingPolicy,
)
from qwen3_rag.thinking.reader import Pieces, ReasoningReader, merge_details
from qwen3_rag.thinking.turn import Turn
from qwen3_rag.thinking.usage import Usage
from qwen3_rag.thinking.wire import WireError

__all__ = [
    "DIALECTS",
    "EFFORT_BUDGETS",
    "LEARNED",
    "AutoRule",
    "Call",
    "Decision",
    "Dialect",
    "Effort",
    "Endpoint",
    "Entry",
    "Evidence",
    "Fix",
    "Grant",
    "HistoryMode",
    "Learned",
    "Pieces",
    "Plan",
    "Price",
    "ReasoningReader",
    "Request",
    "Thinking",
    "ThinkingBudget",
    "ThinkingPolicy",
    "Turn",
    "Usage",
    "WireError",
    "find_dialect",
    "find_fix",
    "heal",
    "merge_details",
    "outgoing",
    "plan",
    "resolve_endpoint",
    "thinks",
    "to_error",
]
