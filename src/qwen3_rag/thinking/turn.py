"""One answer being read, streamed or not: its pieces, what it cost, and what of it had arrived when it broke off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from qwen3_rag.errors import Partial
from qwen3_rag.thinking.reader import Pieces, ReasoningReader, merge_details
from qwen3_rag.thinking.tool_calls import CallPieces
from qwen3_rag.thinking.usage import Usage

if TYPE_CHECKING:
    from qwen3_rag.thinking.plan import Call, Plan

# DashScope's rule of thumb for Qwen is 3 to 4 English letters, or 1.5 to 1.8 Chinese characters of 3 bytes, per token.
_BYTES_PER_TOKEN: Final = 3


class Turn:
    """Reads one answer (one choice of one response) of a planned call; both frameworks use it.

    End it with `finish` when the answer is complete and with `abandon` when it is not: until then the tokens that it
    reserved are nobody else's.

    Args:
        call: The call.
        plan: What was sent for it.
    """

    def __init__(self, call: Call, plan: Plan) -> None:
        self._call = call
        self._plan = plan
        self._reader = ReasoningReader(start=plan.reader_start)
        self._read: list[Pieces] = []
        self._tools = CallPieces()

    def feed(self, delta: Mapping[str, Any]) -> Pieces:
        """Reads one streamed `delta`, or a whole `message`, as plain JSON."""
        self._tools.feed(delta.get("tool_calls"))
        return self._keep(self._reader.feed(delta))

    def close(self, finish_reason: str | None) -> Pieces:
        """Ends the reading and returns what was held back.

        Args:
            finish_reason: As the server gave it; after `"length"` a block that may have been open counts as reasoning.
        """
        return self._keep(self._reader.close(cut=finish_reason == "length"))

    @property
    def reasoning(self) -> str:
        """The reasoning so far."""
        return "".join(pieces.reasoning for pieces in self._read)

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(pieces.text for pieces in self._read)

    @property
    def details(self) -> tuple[Any, ...]:
        """OpenRouter's `reasoning_details` so far, whole, to be sent back with the message."""
        return merge_details(item for pieces in self._read for item in pieces.details)

    def finish(self, usage: Mapping[str, Any] | None) -> dict[str, Any]:
        """Settles the call's share of the session budget.

        Args:
            usage: The `usage` object of the response, or `None` if none came.

        Returns:
            What the call did and why, for the answer's metadata: plain JSON values only.
        """
        counts = Usage.read(usage)
        if counts is not None and counts.reasoning is None and not self.reasoning:
            counts = replace(counts, reasoning=0)
        if self._plan.grant is not None:
            self._plan.grant.settle(counts, self._call.model)
        decision = self._plan.decision
        return {
            "thinking": {name: getattr(decision, name) for name in ("enabled", "effort", "budget", "reason", "source")},
            "notes": list(self._plan.notes),
            "healed": list(self._plan.healed),
            "reasoning_tokens": counts.reasoning if counts is not None else None,
        }

    def partial(self) -> Partial:
        """Returns what has arrived, with what the reader still holds back; the reading can go on."""
        held = self._reader.held()
        calls = tuple({"id": call["id"], **call["function"]} for call in self._tools.whole())
        return Partial(self.reasoning + held.reasoning, self.text + held.text, calls)

    def abandon(self) -> None:
        """Ends a call that failed or was cancelled.

        No usage comes for it, so the session budget is charged an estimate of the reasoning that had arrived, on the high
        side and within the grant, and gets the rest back.
        """
        if self._plan.grant is None:
            return
        arrived = len(self.partial().reasoning.encode(errors="surrogatepass"))
        if not arrived:
            self._plan.grant.release()
            return
        tokens = min(self._plan.grant.tokens, -(-arrived // _BYTES_PER_TOKEN))
        self._plan.grant.settle(Usage(output=tokens, reasoning=tokens), self._call.model)

    def _keep(self, pieces: Pieces) -> Pieces:
        if pieces:
            self._read.append(pieces)
        return pieces
