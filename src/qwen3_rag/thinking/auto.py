"""The documented rule behind `thinking="auto"`: think where it adds value, in words and without chance.

The rule, in this order; the first that fits decides:

1. The question asks for **work**: a calculation (two quantities with units are one), a comparison, several steps, a
   plan, or code → think, whatever was found.
2. There is **evidence**, the rerank scores P(yes) of the passages that go to the model:

   * the best is below 0.5: no passage answers by itself → think;
   * the best is at least 0.9, or leads the second by at least 0.2: a clear winner → don't think;
   * else several passages compete → think.
3. The question asks for **reasons or an amount** (why, how many), or is long → think.
4. It is a look-up → don't think.

Words are looked for in English, Chinese, Japanese and Korean, without regard to case or width of letters. The rule reads
nothing else, so equal questions with equal scores decide equally. For another rule pass a callable:
`ThinkingPolicy(auto=lambda question, evidence: ...)`.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from qwen3_rag.thinking.policy import AutoRule, Decision, Evidence

__all__ = ["AutoRule", "Evidence", "thinks"]

WEAK_SCORE: Final = 0.5
"""Below this P(yes) the best passage does not answer by itself."""

SURE_SCORE: Final = 0.9
"""From this P(yes) on the best passage answers, however many others do too."""

CLEAR_LEAD: Final = 0.2
"""By so much the best passage leads the second where it is a clear winner."""

_SHOWN: Final = 40  # longest quotation in a reason

LONG_QUESTION: Final = 60
"""So many words make a question long; a Chinese, Japanese or Korean letter counts as half a word."""


def thinks(question: str, evidence: Evidence | None = None) -> Decision:
    """Decides whether a question deserves thinking; see the module's documentation for the rule.

    Args:
        question: The user's question, without the passages.
        evidence: How sure retrieval is; `None` outside a RAG chain. Without scores it says nothing.

    Returns:
        The decision with its reason as a sentence.
    """
    text = unicodedata.normalize("NFKC", question).casefold()
    work = _find(_WORK, text)
    if work:
        return _decide(True, f"the question asks for {work}")
    if evidence is not None and evidence.scores:
        return _weigh(evidence)
    amount = _find(_AMOUNTS, text)
    if amount:
        return _decide(True, f"the question asks for {amount}")
    if _words(text) >= LONG_QUESTION:
        return _decide(True, f"the question is long ({LONG_QUESTION} words or more)")
    return _decide(False, "the question is a look-up: nothing in it asks for reasoning")


def _weigh(evidence: Evidence) -> Decision:
    best, second = [*sorted(evidence.scores, reverse=True), 0.0][:2]
    if best < WEAK_SCORE:
        return _decide(True, f"the evidence is weak: the best passage scores {best:.2f}")
    if best >= SURE_SCORE or best - second >= CLEAR_LEAD:
        return _decide(False, f"a passage clearly answers: it scores {best:.2f}, the next {second:.2f}")
    return _decide(True, f"the evidence conflicts: the best passages score {best:.2f} and {second:.2f}")


def _decide(enabled: bool, reason: str) -> Decision:
    return Decision(enabled, reason=reason, source="auto")


def _find(signals: dict[str, re.Pattern[str]], text: str) -> str | None:
    """Names the first kind of signal that the text holds, with the words that show it."""
    for kind, pattern in signals.items():
        match = pattern.search(text)
        if match:
            shown = " ".join(match.group().split())
            return f"{kind} ({shown!r})" if len(shown) <= _SHOWN else kind
    return None


def _words(text: str) -> float:
    letters = len(_CJK.findall(text))
    return letters / 2 + len(_CJK.sub(" ", text).split())


_CJK: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def _signals(*parts: str) -> re.Pattern[str]:
    return re.compile("|".join(parts), re.DOTALL)


# Time, length, weight, money, shares: what word problems are made of. No sizes of files, no versions, no years.
_QUANTITY: Final = (
    r"(?<![\w.])([$€£¥]\s?\d[\d.,]*|\d[\d.,]*\s?("
    r"(km|m|cm|mm|mi|kg|g|lb|h|s|min)\b|%|percent|(kilo)?(meter|metre|gram)s?|miles?|feet|hours?|minutes?|seconds?|days?|"
    r"weeks?|years old|dollars?|euros?|cents?|yuan|people|workers|apples|"
    r"公里|千米|米|小时|小時|分钟|秒|天|元|块|公斤|克|人|岁|個|个|キロ|メートル|時間|分間?|円|歳|"
    r"킬로|미터|시간|분|초|원|명|개|살))"
)

# In English a signal is a whole word; the other three are written without spaces or with endings.
_WORK: Final = {
    "a calculation": _signals(
        r"\d\s*[+*×÷^=]\s*\d",
        r"\d\s+[-/]\s+\d",
        r"\b(calculat|comput)(e|es|ed|ing|ion)\b",
        r"\b(solve|equations?|integrals?|derivatives?|probabilit(y|ies)|percent(age)?s?|averages?)\b",
        r"\b(what is|find) the (sum|total|product|ratio|mean|median)\b",
        r"\bhow (long|fast|far|late|early) (will|would|does|do|did|must|should)\b",
        rf"{_QUANTITY}.{{1,120}}?{_QUANTITY}",
        r"计算|求解|解方程|方程|概率|百分之|平均(值|数)|总共|一共|合计|加起来|[多几]少?倍|之和",
        r"計算|方程式|確率|合計|平均|何倍|求めよ|求めて",
        r"계산|방정식|확률|합계|평균|몇\s?배|구하(시오|세요|라)",
    ),
    "a comparison": _signals(
        r"\b(compar(e|es|ed|ing|ison)|versus|vs|trade-?offs?|pros and cons)\b",
        r"\bdiffer(s|ences?)?\b.{0,60}\b(between|from)\b",
        r"\b(better|worse|faster|slower|cheaper|safer|more \w+|less \w+) than\b",
        r"\bwhich (one )?(of|is|are|should)\b.{0,60}\b(or|better|best|faster|cheaper)\b",
        r"\badvantages?\b.{0,60}\bdisadvantages?\b",
        r"比较|对比|相比|区别|差异|有什么不同|有何不同|优缺点|利弊|哪个更|哪一个更|哪种更",
        r"比較|違い|どちらが|どっちが|優劣|長所と短所|メリットとデメリット",
        r"비교|차이|어느\s?(것|쪽)이|더\s?나은|장단점",
    ),
    "several steps": _signals(
        r"\bstep[- ]by[- ]step\b",
        r"\b(prove|proof|derive|deduce|infer|refute)\b",
        r"\b(suppose|assum(e|ing)|given that|what if)\b",
        r"\bif\b.{1,120}\b(then|what|when|how|who|which)\b",
        r"\bfirst\b.{1,120}\b(then|next|finally)\b",
        r"一步一步|逐步|分步|首先.{1,60}然后|如果.{1,60}(那么|会|怎么|多少)|假设|假如|证明|推导|推理|推断",
        r"段階的|ステップ|順を追って|まず.{1,60}(次に|それから)|もし.{1,60}(なら|たら)|仮定|仮に|証明|導出|推論",
        r"단계별|차근차근|먼저.{1,60}(다음|그리고)|만약.{1,60}(다면|라면|면)|가정|증명|유도|추론",
    ),
    "a plan": _signals(
        r"\b(make|create|write|draw up|develop|propose|outline|suggest)\b.{0,40}"
        r"\b(plan|strategy|roadmap|schedule|itinerary|architecture)\b",
        r"\b(plan|design|schedule|organi[sz]e|architect) (a|an|the|my|our|for)\b",
        r"\b(optimi[sz]e|prioriti[sz]e)\b",
        r"(制定|设计|拟定|规划|安排).{0,20}(计划|方案|策略|路线|架构|日程|系统)|优化|怎么(规划|安排|设计)",
        r"(計画|戦略|設計|スケジュール)を?(立て|作|考え|練|し)|最適化",
        r"(계획|전략|일정|설계)(을|를)?\s?(세우|세워|짜|만들|하)|최적화",
    ),
    "code": _signals(
        r"```|\btraceback\b|\bstack ?trace\b|\bdef \w+\(|\bselect\b.{1,80}\bfrom\b.{1,80}\bwhere\b",
        r"\b(write|implement|fix|debug|refactor|optimi[sz]e|review)\b.{0,40}"
        r"\b(code|function|class|program|script|quer(y|ies)|regex|algorithm|test|bug|method)\b",
        r"\b(debug|refactor|time complexity|big-?o)\b",
        r"(写|编写|实现|修复|重构|调试).{0,20}(代码|函数|程序|脚本|算法|类|查询|正则|接口)|时间复杂度|报错",
        r"(コード|関数|プログラム|スクリプト|アルゴリズム|クエリ)を?(書|実装|直|修正|作)|デバッグ|リファクタ|計算量",
        r"(코드|함수|프로그램|스크립트|알고리즘|쿼리)(을|를)?\s?(작성|구현|고쳐|수정|짜|만들)|디버그|디버깅|리팩터|시간\s?복잡도",
    ),
}

_AMOUNTS: Final = {
    "reasons": _signals(
        r"\b(why|how come|what causes?|reasons?)\b",
        r"为什么|为何|为啥|原因|怎么会",
        r"なぜ|どうして|何故|理由",
        r"왜|이유|어째서|원인",
    ),
    "an amount": _signals(
        r"\bhow (many|much|often)\b",
        r"多少|几(个|种|次|天|年|人|条)",
        r"いくつ|いくら|何(個|人|回|種類|日|年)|どれ(くらい|ぐらい|だけ)",
        r"몇\s?(개|명|번|가지|일|년|종류)|얼마나|얼마",
    ),
}
