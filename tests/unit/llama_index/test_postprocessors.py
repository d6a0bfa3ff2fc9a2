"""`Qwen3Rerank` as a LlamaIndex node postprocessor."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import ImageNode, MetadataMode, NodeWithScore, QueryBundle, TextNode

from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.llama_index import Qwen3Rerank
from qwen3_rag.types import RerankResult
from tests.fakes import OverlapReranker

QUERY = "where does milvus store data"
TEXTS = ["bread needs yeast", "milvus keeps data in object storage", "where does milvus store data", "data"]


def nodes(texts=TEXTS, **fields):
    return [
        NodeWithScore(node=TextNode(id_=str(i), text=text, **fields), score=0.9 - i / 10)
        for i, text in enumerate(texts)
    ]


class FixedReranker(OverlapReranker):
    """Gives the scores it was made with."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = np.array(logits, np.float32)

    def score_pairs(self, pairs, *, instruction=None):
        return RerankResult(0.5 + 0.5 * np.tanh(self.logits / 2), self.logits)


def test_is_what_llama_index_takes():
    rerank = Qwen3Rerank(OverlapReranker())
    assert isinstance(rerank, BaseNodePostprocessor)
    assert rerank.class_name() == "Qwen3Rerank"


def test_construction_loads_nothing():
    assert Qwen3Rerank("/nowhere/at-all", device="cpu").model == "/nowhere/at-all"
    assert Qwen3Rerank().model == "Qwen/Qwen3-Reranker-0.6B"


@pytest.mark.parametrize(
    "arguments",
    [
        {"top_n": 0},
        {"top_n": True},
        {"score_threshold": 1.1},
        {"score_threshold": -0.1},
        {"score_threshold": "0.5"},
        {"instruction": ""},
    ],
)
def test_impossible_arguments(arguments):
    with pytest.raises(ConfigurationError):
        Qwen3Rerank(OverlapReranker(), **arguments)
    with pytest.raises(ConfigurationError):
        Qwen3Rerank(OverlapReranker()).with_options(**arguments)


def test_with_options_knows_its_names():
    with pytest.raises(ConfigurationError, match=r"top_n, score_threshold, instruction.*topn"):
        Qwen3Rerank(OverlapReranker()).with_options(topn=3)


def test_best_first_with_both_scores():
    found = Qwen3Rerank(OverlapReranker(), top_n=2).postprocess_nodes(nodes(), query_str=QUERY)
    assert [n.node_id for n in found] == ["2", "1"]
    assert found[0].score == pytest.approx(1 / (1 + np.exp(-4)))
    assert found[0].metadata == {
        "relevance_score": found[0].score,
        "retrieval_score": pytest.approx(0.7),
        "retrieval_rank": 3,
    }
    assert type(found[0].score) is float


def test_top_n_none_keeps_all_and_threshold_cuts():
    everything = Qwen3Rerank(OverlapReranker(), top_n=None)
    assert len(everything.postprocess_nodes(nodes(), query_str=QUERY)) == 4
    strict = everything.with_options(score_threshold=0.99)
    assert strict.postprocess_nodes(nodes(), query_str=QUERY) == []


def test_default_top_n_is_three():
    assert len(Qwen3Rerank(OverlapReranker()).postprocess_nodes(nodes(), query_str=QUERY)) == 3


def test_a_zero_score_comes_last():
    """LlamaIndex's SentenceTransformerRerank sorts by `-score if score else 0`, which puts 0.0 before 0.3."""
    found = Qwen3Rerank(FixedReranker(-200, 1, -1, 3), top_n=None).postprocess_nodes(nodes(), query_str=QUERY)
    assert [n.node_id for n in found] == ["3", "1", "2", "0"]
    assert found[-1].score == 0.0


def test_equal_scores_keep_their_order():
    found = Qwen3Rerank(FixedReranker(1, 1, 1, 1), top_n=None).postprocess_nodes(nodes(), query_str=QUERY)
    assert [n.node_id for n in found] == ["0", "1", "2", "3"]


def test_nothing_is_mutated():
    given = nodes(metadata={"tags": ["a"], "relevance_score": "mine"}, excluded_llm_metadata_keys=["tags"])
    before = [n.model_dump_json() for n in given]
    bundle = QueryBundle(QUERY)
    found = Qwen3Rerank(OverlapReranker(), top_n=None).postprocess_nodes(given, bundle)
    assert [n.model_dump_json() for n in given] == before
    assert bundle == QueryBundle(QUERY)
    for kept in found:
        original = given[int(kept.node_id)]
        assert kept is not original
        assert kept.node is not original.node
        assert kept.node.metadata is not original.node.metadata
        assert kept.node.excluded_llm_metadata_keys is not original.node.excluded_llm_metadata_keys


@pytest.mark.parametrize("mode", list(MetadataMode))
def test_added_metadata_is_in_no_text(mode):
    given = nodes(metadata={"title": "T"})[:1]
    found = Qwen3Rerank(OverlapReranker()).postprocess_nodes(given, query_str=QUERY)
    if mode is MetadataMode.ALL:
        assert "relevance_score" in found[0].get_content(mode)
    else:
        assert found[0].get_content(mode) == given[0].get_content(mode)


def test_rerankers_can_follow_each_other():
    first, second = OverlapReranker(), OverlapReranker()
    once = Qwen3Rerank(first, top_n=None).postprocess_nodes(nodes(metadata={"title": "T"}), query_str=QUERY)
    twice = Qwen3Rerank(second, top_n=None).postprocess_nodes(once, query_str=QUERY)
    assert sorted(first.calls[0][1]) == sorted(second.calls[0][1])
    assert [n.node_id for n in twice] == [n.node_id for n in once]
    assert twice[0].node.excluded_embed_metadata_keys == once[0].node.excluded_embed_metadata_keys


def test_metadata_in_the_scored_text():
    seen = {}
    for mode in (None, MetadataMode.NONE, MetadataMode.LLM):
        core = OverlapReranker()
        rerank = Qwen3Rerank(core, **({} if mode is None else {"metadata_mode": mode}))
        fields = {
            "metadata": {"a": 1, "b": 2},
            "excluded_embed_metadata_keys": ["b"],
            "excluded_llm_metadata_keys": ["a"],
        }
        rerank.postprocess_nodes(nodes(["text"], **fields), query_str="q")
        seen[mode] = core.calls[0][1][0]
    assert seen == {None: "a: 1\n\ntext", MetadataMode.NONE: "text", MetadataMode.LLM: "b: 2\n\ntext"}


def test_no_cap_at_512_tokens():
    """LlamaIndex's SentenceTransformerRerank cuts every pair at 512 tokens."""
    core = OverlapReranker()
    long = "word " * 5_000 + "milvus"
    found = Qwen3Rerank(core).postprocess_nodes(nodes(["word", long]), query_str="milvus")
    assert core.calls[0][1][1] == long
    assert found[0].node_id == "1"


def test_a_node_without_a_score_gets_no_retrieval_score():
    node = NodeWithScore(node=TextNode(text="a"))
    found = Qwen3Rerank(OverlapReranker()).postprocess_nodes([node], query_str="a")
    assert set(found[0].metadata) == {"relevance_score", "retrieval_rank"}


def test_nodes_keep_their_class():
    node = NodeWithScore(node=ImageNode(text="a", image_url="https://example.org/x.png"), score=0.5)
    found = Qwen3Rerank(OverlapReranker()).postprocess_nodes([node], query_str="a")
    assert isinstance(found[0].node, ImageNode)
    assert found[0].node.image_url == "https://example.org/x.png"


async def test_instruction_per_instance_and_per_call():
    core = OverlapReranker()
    plain, inverted = Qwen3Rerank(core, top_n=1), Qwen3Rerank(core, top_n=1, instruction="invert")
    assert plain.postprocess_nodes(nodes(), query_str=QUERY)[0].node_id == "2"
    assert inverted.postprocess_nodes(nodes(), query_str=QUERY)[0].node_id == "0"
    assert plain.postprocess_nodes(nodes(), query_str=QUERY, instruction="invert")[0].node_id == "0"
    assert (await plain.apostprocess_nodes(nodes(), query_str=QUERY, instruction="invert"))[0].node_id == "0"
    assert plain.postprocess_nodes(nodes(), query_str=QUERY)[0].node_id == "2", "a call must not change the instance"
    assert plain.with_options(instruction="invert").reranker is core


async def test_a_missing_query_is_an_error():
    rerank = Qwen3Rerank(OverlapReranker())
    for given in (nodes(), []):
        with pytest.raises(InputError, match="query"):
            rerank.postprocess_nodes(given)
        with pytest.raises(InputError, match="query"):
            await rerank.apostprocess_nodes(given)


async def test_nodes_of_a_generator_are_all_there():
    rerank = Qwen3Rerank(OverlapReranker())
    expected = rerank.postprocess_nodes(nodes(), query_str=QUERY)
    assert rerank.postprocess_nodes((node for node in nodes()), query_str=QUERY) == expected
    assert await rerank.apostprocess_nodes((node for node in nodes()), query_str=QUERY) == expected


async def test_no_nodes_no_call():
    core = OverlapReranker()
    rerank = Qwen3Rerank(core)
    assert rerank.postprocess_nodes([], query_str="q") == []
    assert await rerank.apostprocess_nodes([], query_str="q") == []
    assert core.calls == []


async def test_async_awaits_the_core():
    class AsyncOnly(OverlapReranker):
        def rerank(self, query, documents, *, instruction=None):
            raise AssertionError("the async method must not fall back to a thread with the sync one")

        async def arerank(self, query, documents, *, instruction=None):
            return OverlapReranker().rerank(query, documents, instruction=instruction)

    found = await Qwen3Rerank(AsyncOnly()).apostprocess_nodes(nodes(), query_str=QUERY)
    assert found == Qwen3Rerank(OverlapReranker()).postprocess_nodes(nodes(), query_str=QUERY)


def test_pydantic_round_trip():
    rerank = Qwen3Rerank("tiny", top_n=None, metadata_mode=MetadataMode.NONE, device="cpu")
    assert Qwen3Rerank.model_validate(rerank.model_dump()).to_dict() == rerank.to_dict()


def test_paths_among_the_options_are_written_as_text(tmp_path):
    rerank = Qwen3Rerank("tiny", cache_folder=tmp_path)
    assert json.loads(rerank.to_json())["model_kwargs"] == {"cache_folder": str(tmp_path)}


async def test_nodes_that_can_be_read_only_once_are_all_scored():
    rerank = Qwen3Rerank(OverlapReranker())
    expected = rerank.postprocess_nodes(nodes(), query_str=QUERY)
    assert rerank.postprocess_nodes(iter(nodes()), query_str=QUERY) == expected
    assert await rerank.apostprocess_nodes((n for n in nodes()), query_str=QUERY) == expected


def test_dict_round_trip():
    rerank = Qwen3Rerank("tiny", top_n=None, score_threshold=0.2, instruction="i", device="cpu")
    again = Qwen3Rerank.from_dict(json.loads(rerank.to_json()))
    assert again.to_dict() == rerank.to_dict()


def test_copies_and_pickles():
    rerank = Qwen3Rerank(OverlapReranker(), top_n=1, instruction="invert")
    assert copy.deepcopy(rerank).reranker is rerank.reranker
    again = pickle.loads(pickle.dumps(rerank))
    assert isinstance(again.reranker, OverlapReranker)
    assert again.postprocess_nodes(nodes(), query_str=QUERY) == rerank.postprocess_nodes(nodes(), query_str=QUERY)
