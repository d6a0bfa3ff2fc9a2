"""Reranking models behind HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, Unpack

import numpy as np

from qwen3_rag.errors import ConfigurationError, RemoteInputTooLongError, RemoteModerationError, RemoteRequestError
from qwen3_rag.prompts import DEFAULT_INSTRUCTION
from qwen3_rag.remote.answers import in_order, logit, probability, read_rows
from qwen3_rag.remote.api import RerankApi, RerankCall
from qwen3_rag.remote.connection import ConnectionOptions
from qwen3_rag.remote.http import Request
from qwen3_rag.remote.inputs import TooLong, check_count, warn_cut
from qwen3_rag.remote.loop import LOOP
from qwen3_rag.remote.model import RemoteModel, Work
from qwen3_rag.remote.probe import (
    OTHER_INSTRUCTION,
    RERANK_EXAMPLE,
    RerankEvidence,
    RerankProbe,
    judge_scores,
    to_logits,
    to_probabilities,
)
from qwen3_rag.remote.profiles import rerank_profile, split_name
from qwen3_rag.remote.rerank_plan import RerankJob, RerankSettings, needs_instruction
from qwen3_rag.remote.servers import DashScopeApi, Template
from qwen3_rag.remote.templates import framed_document, framed_query
from qwen3_rag.texts import check_pairs, check_texts
from qwen3_rag.tokens import token_counter
from qwen3_rag.types import RerankResult

ScoreKind = Literal["probability", "logit"]


@dataclass(frozen=True, slots=True)
class _Switches:
    """How the server has to be spoken to.

    Attributes:
        template: Who puts the prompt around the texts.
        scores: What its scores are; `None` if nobody looked.
        instructions: Whether an instruction can be sent where the server puts the prompt.
    """

    template: Literal["server", "client"]
    scores: ScoreKind
    instructions: bool


class RemoteReranker(RemoteModel[_Switches]):
    """A reranking model at DashScope or at a server of your own.

    Requests over a model's limits are split, and since scores don't depend on the other documents, merged again.

    Example:
        >>> from qwen3_rag.remote import RemoteReranker
        >>> reranker = RemoteReranker("dashscope:qwen3-rerank")  # doctest: +SKIP
        >>> reranker.rerank("What is Milvus?", ["A vector database.", "A fish."]).scores.argmax()  # doctest: +SKIP
        0

    Args:
        model: `"server:model"`: `dashscope:`, `vllm:`, `sglang:`, `tei:`, `llamacpp:`, `infinity:`, `jina:`, `siliconflow:`,
            or `openai:` for any other server with `/rerank`.
        instruction: What counts as relevant when a call names nothing else; `None` is `prompts.DEFAULT_INSTRUCTION`.
        too_long: What happens to a document over the limit: `"error"`, `"truncate"` with a report, or `"best_window"`: it is
            scored in overlapping windows, of which the best counts. A query is only ever cut by `"truncate"`.
        max_tokens: The limit. DashScope: tokens of query and document each; other servers: of the whole pair with its prompt.
            `None` is the model's where it is known, else the server is the judge.
        rows: Documents per request at most; `None` is the server's usual limit.
        api: DashScope: `"native"` or `"compatible"`; `None` takes the first, and the second where that is refused.
        template: Who puts the Qwen3 prompt around the texts: `"server"` (started with a template for it), `"client"`, or
            `"auto"`: the probe finds it out. `None` is the server's usual.
        scores: What the server's scores are; `None` asks the probe, or takes them for probabilities.
        probe: Whether the first use sends the published example once and refuses a server that answers it wrongly; `None`
            does for self-hosted servers.
        tokenizer: Counts tokens exactly: a tokenizer with `encode`, or a function. `None` estimates from above.
        **connection: `base_url`, `api_key`, `region`, `workspace_id`, `headers`, `timeout`, `retries`, `rate_limit`,
            `concurrency`; see `qwen3_rag.remote.ConnectionOptions`.

    Raises:
        ConfigurationError: If a value can't work.
    """

    def __init__(
        self,
        model: str,
        *,
        instruction: str | None = None,
        too_long: TooLong = "error",
        max_tokens: int | None = None,
        rows: int | None = None,
        api: DashScopeApi | None = None,
        template: Template | None = None,
        scores: ScoreKind | None = None,
        probe: bool | None = None,
        tokenizer: Any = None,
        **connection: Unpack[ConnectionOptions],
    ) -> None:
        profile = rerank_profile(*split_name(model), api)
        super().__init__(model, connection)
        if scores not in {None, "probability", "logit"}:
            raise ConfigurationError(f"scores must be 'probability', 'logit' or None, got {scores!r}")
        profile = replace(
            profile,
            documents=check_count("rows", rows) or profile.documents,
            tokens=check_count("max_tokens", max_tokens) or profile.tokens,
            template=template or profile.template,
            probe=profile.probe if probe is None else probe,
        )
        if profile.template == "auto" and not profile.probe:
            raise ConfigurationError(
                "without a probe nobody finds out the template: pass template='server' or 'client'"
            )
        self._settings = RerankSettings(
            profile=profile,
            model=self._model,
            instruction=DEFAULT_INSTRUCTION if instruction is None else instruction,
            too_long=too_long,
            count=token_counter(tokenizer),
        )
        self._scores = scores
        self._api = 0

    @property
    def model_id(self) -> str:
        """Server, model and whatever else changes the scores; not the host, which may move."""
        return "|".join([f"{self._server.name}:{self._model}", *self._settings.marks()])

    @property
    def instruction(self) -> str:
        """The instruction when a call names no other."""
        return self._settings.instruction

    def rerank(self, query: str, documents: Sequence[str], *, instruction: str | None = None) -> RerankResult:
        """Scores every document against one query.

        Args:
            query: The question.
            documents: The texts to judge.
            instruction: What counts as relevant, in English; `None` is the reranker's own.

        Returns:
            Scores in the order of `documents`.

        Raises:
            InputError: If a text is not a string, or one is too long and `too_long="error"`.
            ConfigurationError: If the server can't be given this instruction.
            RemoteError: If the server can't be reached, refuses, or answers wrongly.
            RemoteBatchError: If only a part failed.
        """
        return self._call(partial(self._plan, query, documents, instruction), self._rerank)

    def score_pairs(self, pairs: Sequence[tuple[str, str]], *, instruction: str | None = None) -> RerankResult:
        """Scores (query, document) pairs; those that share a query go in one request.

        Returns:
            Scores in the order of `pairs`. Raises as `rerank`.
        """
        return self._call(partial(self._plan_pairs, pairs, instruction), self._rerank)

    async def arerank(self, query: str, documents: Sequence[str], *, instruction: str | None = None) -> RerankResult:
        """Async twin of `rerank`."""
        return await self._acall(partial(self._plan, query, documents, instruction), self._rerank)

    async def ascore_pairs(self, pairs: Sequence[tuple[str, str]], *, instruction: str | None = None) -> RerankResult:
        """Async twin of `score_pairs`."""
        return await self._acall(partial(self._plan_pairs, pairs, instruction), self._rerank)

    def probe(self) -> RerankProbe:
        """Sends the published example and says what the server does with a pair.

        Raises:
            ModelCheckError: If its scores are not those of a Qwen3 reranking model.
            RemoteError: If the server can't be asked.
        """
        return LOOP.run(self._probe())

    async def aprobe(self) -> RerankProbe:
        """Async twin of `probe`."""
        return await LOOP.arun(self._probe())

    def _plan(self, query: str, documents: Sequence[str], instruction: str | None) -> RerankJob:
        check_texts([query], "query")
        check_texts(documents, "documents")
        return self._planned([(query, document) for document in documents], instruction)

    def _plan_pairs(self, pairs: Sequence[tuple[str, str]], instruction: str | None) -> RerankJob:
        check_pairs(pairs)
        return self._planned(pairs, instruction)

    def _planned(self, pairs: Sequence[tuple[str, str]], instruction: str | None) -> RerankJob:
        job = self._settings.plan(pairs, instruction)
        warn_cut(job.truncated, len(pairs))
        return job

    async def _rerank(self, job: RerankJob, done: Mapping[int, float] = MappingProxyType({})) -> RerankResult:
        if not job.inputs:
            return RerankResult(np.zeros(0, np.float32), np.zeros(0, np.float32))
        switches = await self._switches()
        work = Work(
            rows=len(job.documents),
            batches=partial(self._settings.batches, job),
            send=partial(self._send, job, switches),
            inputs=job.inputs,
            what="documents",
            value=lambda scores: float(to_probabilities([max(scores)])[0]),
            finish=partial(self._rerank, job),
        )
        outcome = await self._work(work, done)
        logits = np.array([max(outcome.done[row] for row in rows) for rows in job.inputs], np.float32)
        return RerankResult(to_probabilities(logits), logits, outcome.tokens, job.truncated)

    async def _send(self, job: RerankJob, switches: _Switches, rows: Sequence[int]) -> tuple[list[float], int]:
        scores, tokens = await self._ask(job, switches, rows)
        check = logit if switches.scores == "logit" else probability
        checked = [check(score, self._client.server) for score in scores]
        return (checked if switches.scores == "logit" else to_logits(checked).tolist()), tokens

    async def _ask(self, job: RerankJob, switches: _Switches, rows: Sequence[int]) -> tuple[list[Any], int]:
        queries = [job.queries[row] for row in rows]
        documents = [job.documents[row] for row in rows]
        if switches.template == "client":
            queries = [framed_query(query, job.instruction) for query in queries]
            documents = [framed_document(document) for document in documents]
        call = RerankCall(
            model=self._model, queries=queries, documents=documents, instruction=self._instruction_for(job, switches)
        )
        api, data = await self._post(call, sum(job.costs[row] for row in rows))
        answer = read_rows(api.rows, data, self._client.server)
        return in_order(answer, len(rows), self._client.server), answer.tokens

    def _instruction_for(self, job: RerankJob, switches: _Switches) -> str | None:
        if switches.template == "client":
            return None
        if switches.instructions:
            return needs_instruction(job, self._model)
        if job.instruction != DEFAULT_INSTRUCTION:
            raise ConfigurationError(
                f"{self._client.server} puts its own prompt around the texts and uses no instruction of the request, got "
                f"{job.instruction!r:.80}: start it without a template (template='client'), or use the default"
            )
        return None

    async def _post(self, call: RerankCall, tokens: int) -> tuple[RerankApi, Any]:
        profile = self._settings.profile
        if profile.pairs is not None and len(set(call.queries)) > 1:
            return profile.pairs, await self._client.post(Request(profile.pairs.path, profile.pairs.body(call), tokens))
        api = profile.apis[self._api]
        try:
            return api, await self._client.post(Request(api.path, api.body(call), tokens))
        except RemoteRequestError as error:
            about_texts = isinstance(error, (RemoteInputTooLongError, RemoteModerationError))
            if about_texts or self._api + 1 >= len(profile.apis):
                raise
            other = profile.apis[self._api + 1]
            try:
                data = await self._client.post(Request(other.path, other.body(call), tokens))
            except RemoteRequestError:
                raise error from None  # refused in both forms: it is not the form
            self._api += 1
            return other, data

    async def _greet(self) -> None:
        if not self._settings.profile.probe:
            await self._rerank(self._settings.plan([(RERANK_EXAMPLE.query, RERANK_EXAMPLE.documents[0])], None))
        await self._switches()

    async def _learn(self) -> _Switches:
        profile = self._settings.profile
        if profile.probe:
            found = await self._probe()
            return _Switches(found.template, self._scores or found.scores, found.instructions)
        template: Literal["server", "client"] = "client" if profile.template == "client" else "server"
        return _Switches(template, self._scores or "probability", profile.instructions)

    async def _probe(self) -> RerankProbe:
        asked = self._settings.profile.template
        takes = self._settings.profile.instructions
        tried: dict[Literal["server", "client"], RerankEvidence] = {}
        for template in ("server", "client") if asked == "auto" else (asked,):
            tried[template] = await self._example(template, DEFAULT_INSTRUCTION)
            if template == "server" and tried[template].published:
                break
        probe = judge_scores(tried, self._client.server, instructions=False)
        if probe.template == "client" or not takes:
            return probe
        other = await self._example("server", OTHER_INSTRUCTION)
        return replace(probe, instructions=other != tried["server"])

    async def _example(self, template: Literal["server", "client"], instruction: str) -> RerankEvidence:
        job = self._settings.plan([(RERANK_EXAMPLE.query, text) for text in RERANK_EXAMPLE.documents], instruction)
        switches = _Switches(template, "logit", instructions=True)
        scores, tokens = await self._ask(job, switches, range(len(job.documents)))
        return RerankEvidence([logit(score, self._client.server) for score in scores], tokens)
