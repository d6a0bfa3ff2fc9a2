"""What a caller of the local embedder relies on, beyond the numbers."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwen3_rag import LocalEmbedder
from qwen3_rag.errors import (
    ConfigurationError,
    InputError,
    ModelCheckError,
    ModelNotFoundError,
    OutOfMemoryError,
    TruncationWarning,
)
from qwen3_rag.inference import engine as engine_module
from qwen3_rag.types import Embedder

relaxed = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_is_an_embedder(embedder_folder: Path) -> None:
    assert isinstance(LocalEmbedder(embedder_folder), Embedder)


@relaxed
@given(text=st.text(max_size=60), others=st.lists(st.text(max_size=40), max_size=6), budget=st.integers(1, 200))
def test_alone_or_among_others_is_the_same_vector(
    embedder_folder: Path, text: str, others: list[str], budget: int
) -> None:
    alone = LocalEmbedder(embedder_folder).embed_documents([text]).vectors[0]
    among = LocalEmbedder(embedder_folder, pack_tokens=budget).embed_documents([*others, text, *others])
    np.testing.assert_allclose(among.vectors[len(others)], alone, atol=1e-5)


def test_empty_list(embedder_folder: Path) -> None:
    result = LocalEmbedder(embedder_folder).embed_documents([])
    assert result.vectors.shape == (0, 64)
    assert LocalEmbedder(embedder_folder).embed_queries([], dimensions=32).vectors.shape == (0, 32)


def test_equal_texts_are_computed_once(embedder_folder: Path) -> None:
    embedder = LocalEmbedder(embedder_folder)
    once, thrice = embedder.embed_documents(["a b c"]), embedder.embed_documents(["a b c"] * 3)
    assert thrice.tokens == once.tokens
    assert np.array_equal(thrice.vectors, np.repeat(once.vectors, 3, axis=0))


def test_query_and_document_differ(embedder_folder: Path) -> None:
    embedder = LocalEmbedder(embedder_folder)
    assert np.abs(embedder.embed_query("milvus") - embedder.embed_documents(["milvus"]).vectors[0]).max() > 1e-3


def test_instruction_per_call_leaves_the_instance_alone(embedder_folder: Path) -> None:
    embedder = LocalEmbedder(embedder_folder)
    before = embedder.embed_query("milvus")
    other = embedder.embed_query("milvus", instruction="Find duplicates")
    assert np.abs(before - other).max() > 1e-4
    np.testing.assert_array_equal(embedder.embed_query("milvus"), before)


def test_dimensions_per_call(embedder_folder: Path) -> None:
    embedder = LocalEmbedder(embedder_folder, dimensions=48)
    assert embedder.dimensions == 48
    assert embedder.embed_documents(["x"], dimensions=33).vectors.shape == (1, 33)
    assert embedder.embed_documents(["x"]).vectors.shape == (1, 48)


@pytest.mark.parametrize("dimensions", [0, 31, 65, -1, 40.0, True])
def test_wrong_dimensions(embedder_folder: Path, dimensions: Any) -> None:
    with pytest.raises(ConfigurationError, match="between 32 and"):
        LocalEmbedder(embedder_folder, dimensions=dimensions).embed_documents(["x"])


def test_known_models_are_checked_at_construction() -> None:
    with pytest.raises(ConfigurationError, match="between 32 and 1024, got 2000"):
        LocalEmbedder("Qwen/Qwen3-Embedding-0.6B", dimensions=2000)
    assert LocalEmbedder("Qwen/Qwen3-Embedding-4B").dimensions == 2560


def test_not_normalised(embedder_folder: Path) -> None:
    raw = LocalEmbedder(embedder_folder, normalize=False)
    vectors = raw.embed_documents(["milvus"]).vectors
    assert abs(np.linalg.norm(vectors) - 1) > 0.1
    unit = LocalEmbedder(embedder_folder).embed_documents(["milvus"]).vectors
    np.testing.assert_allclose(vectors / np.linalg.norm(vectors), unit, atol=1e-6)
    assert raw.model_id != LocalEmbedder(embedder_folder).model_id


def test_truncation_is_reported_once(embedder_folder: Path) -> None:
    texts = ["one two three four five six", "short", "1 2 3 4 5 6 7 8"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = LocalEmbedder(embedder_folder, max_length=5).embed_documents(texts)
    assert [w.category for w in caught] == [TruncationWarning]
    assert caught[0].filename == __file__
    assert [(t.index, t.tokens, t.kept, t.lost) for t in result.truncated] == [(0, 6, 4, 2), (2, 15, 4, 11)]


def test_nothing_is_reported_when_nothing_was_cut(embedder_folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert LocalEmbedder(embedder_folder).embed_documents(["fine"]).truncated == ()


@pytest.mark.parametrize("texts", ["one string", b"bytes"])
def test_one_string_is_not_a_list(embedder_folder: Path, texts: Any) -> None:
    with pytest.raises(InputError, match="put it into a list"):
        LocalEmbedder(embedder_folder).embed_documents(texts)


@pytest.mark.parametrize("texts", [None, 5, iter(["a"]), (text for text in ["a", "b"])])
def test_what_can_be_read_only_once_or_not_at_all_is_refused(embedder_folder: Path, texts: Any) -> None:
    for embed in (LocalEmbedder(embedder_folder).embed_documents, LocalEmbedder(embedder_folder).embed_queries):
        with pytest.raises(InputError, match=r"texts must be a list of strings, got .*no length"):
            embed(texts)


def test_an_array_of_strings_is_a_list(embedder_folder: Path) -> None:
    embedder = LocalEmbedder(embedder_folder)
    for texts in (["a", "b"], []):
        found = embedder.embed_documents(np.array(texts, str)).vectors  # type: ignore[arg-type]
        np.testing.assert_array_equal(found, embedder.embed_documents(texts).vectors)


def test_item_of_another_type_is_named(embedder_folder: Path) -> None:
    with pytest.raises(InputError, match=r"texts\[1\] must be a string, got NoneType"):
        LocalEmbedder(embedder_folder).embed_documents(["a", None])  # type: ignore[list-item]


def test_a_text_that_is_no_unicode_is_named(embedder_folder: Path) -> None:
    embedder = LocalEmbedder(embedder_folder)
    for embed in (embedder.embed_documents, embedder.embed_queries):
        with pytest.raises(InputError, match=r"texts\[1\] holds half of a surrogate pair at 3: .*errors='replace'"):
            embed(["fine", "bad\udc00"])


@pytest.mark.parametrize("instruction", ["", "  ", "half \ud83d"])
def test_an_instruction_that_can_not_be_one(embedder_folder: Path, instruction: str) -> None:
    with pytest.raises(ConfigurationError, match="non-empty"):
        LocalEmbedder(embedder_folder).embed_query("x", instruction=instruction)


@pytest.mark.parametrize(
    "options",
    [{"dtype": "int8"}, {"max_length": 0}, {"max_length": 40_000}, {"instruction": ""}]
    + [{"pack_tokens": value} for value in (0, "100", 1.5, True)]
    + [{"cache_folder": "~no-such-user/hub"}],
)
def test_wrong_options_fail_at_construction(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        LocalEmbedder("tiny", **options)


def test_missing_device(embedder_folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="'auto' or 'cpu'"):
        LocalEmbedder(embedder_folder, device="nonsense").warm_up()


@pytest.mark.parametrize("model", ["~no-such-user/model", "a" * 300])
def test_a_name_that_can_not_be_a_path(model: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{model[:9]}.*can't be looked up"):
        LocalEmbedder(model)


def test_a_name_that_the_hub_does_not_take() -> None:
    with pytest.raises(ModelNotFoundError, match="'a/b/c'"):
        LocalEmbedder("a/b/c").instruction  # noqa: B018 - reads the saved prompts


def test_model_that_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFoundError, match="'tiny' for the bundled"):
        LocalEmbedder("nobody/no-such-model", local_files_only=True).warm_up()


def test_the_saved_prompt_is_the_default_instruction(embedder_folder: Path, tmp_path: Path) -> None:
    import json
    import shutil

    folder = shutil.copytree(embedder_folder, tmp_path / "model")
    saved = json.loads((folder / "config_sentence_transformers.json").read_text())
    saved["prompts"]["query"] = "Instruct: Find similar bugs\nQuery:"
    (folder / "config_sentence_transformers.json").write_text(json.dumps(saved))
    ours = LocalEmbedder(folder)
    assert ours.instruction == "Find similar bugs"
    expected = LocalEmbedder(embedder_folder).embed_query("x", instruction="Find similar bugs")
    np.testing.assert_allclose(ours.embed_query("x"), expected, atol=1e-6)
    saved["prompts"]["query"] = "query: "
    (folder / "config_sentence_transformers.json").write_text(json.dumps(saved))
    with pytest.raises(ModelCheckError, match="'query: '"):
        LocalEmbedder(folder).embed_query("x")
    saved["prompts"]["query"] = 5
    (folder / "config_sentence_transformers.json").write_text(json.dumps(saved))
    with pytest.raises(ModelCheckError, match="prompt 5"):
        LocalEmbedder(folder).embed_query("x")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("modules.json", b"{"),
        ("config_sentence_transformers.json", b"{"),
        ("tokenizer.json", b'{"version": "1.0"}'),
        ("model.safetensors", b""),
        ("model.safetensors", b"\x10\0\0\0\0\0\0\0half a file"),
    ],
)
def test_damaged_files_are_told(embedder_folder: Path, tmp_path: Path, name: str, content: bytes) -> None:
    import shutil

    folder = shutil.copytree(embedder_folder, tmp_path / "model")
    (folder / name).write_bytes(content)
    with pytest.raises(ModelCheckError, match=r"model'.*download"):
        LocalEmbedder(folder).embed_query("x")


@pytest.mark.parametrize("content", ["{}", '{"type": "x"}', '["Pooling"]', "null"])
def test_a_module_list_of_another_form_says_nothing(embedder_folder: Path, tmp_path: Path, content: str) -> None:
    import shutil

    folder = shutil.copytree(embedder_folder, tmp_path / "model")
    (folder / "modules.json").write_text(content)
    LocalEmbedder(folder).warm_up()


def test_weights_of_another_shape_are_refused(embedder_folder: Path, tmp_path: Path) -> None:
    import json
    import shutil

    folder = shutil.copytree(embedder_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 2 * config["intermediate_size"]}))
    with pytest.raises(ModelCheckError, match=r"mismatch.*download"):
        LocalEmbedder(folder).warm_up()


def test_values_that_are_no_numbers_are_refused(embedder_folder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(embedder_folder, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    large = next(name for name in weights if "layers.0.mlp.down_proj" in name)
    weights[large] *= 1e6
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelCheckError, match=r"float16.*dtype='float32'"):
        LocalEmbedder(folder, dtype="float16").embed_documents(["x"])
    LocalEmbedder(folder, dtype="float32").embed_documents(["x"])


def test_a_reranker_is_refused(reranker_folder: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(reranker_folder, tmp_path / "model")
    (folder / "modules.json").write_text('[{"type": "sentence_transformers.cross_encoder.modules.LogitScore"}]')
    with pytest.raises(ModelCheckError, match="is a reranker"):
        LocalEmbedder(folder).warm_up()


def test_other_architectures_are_refused(embedder_folder: Path, tmp_path: Path) -> None:
    import json
    import shutil

    folder = shutil.copytree(embedder_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "qwen2"}))
    with pytest.raises(ModelCheckError, match="'qwen2'"):
        LocalEmbedder(folder).warm_up()


def test_missing_weights_are_refused(embedder_folder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(embedder_folder, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights = {n: w for n, w in weights.items() if "layers.1.mlp.up_proj" not in n}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelCheckError, match=r"layers\.1\.mlp\.up_proj.*random"):
        LocalEmbedder(folder).warm_up()


def test_vocabulary_of_the_right_size_with_other_ids_is_refused(embedder_folder: Path, tmp_path: Path) -> None:
    import json
    import shutil

    folder = shutil.copytree(embedder_folder, tmp_path / "model")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    vocab["yes"], vocab["no"] = vocab["no"], vocab["yes"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelCheckError, match="'yes' is 2152 and not 9693"):
        LocalEmbedder(folder).warm_up()


def test_same_options_share_the_weights(embedder_folder: Path) -> None:
    one, two = LocalEmbedder(embedder_folder), LocalEmbedder(embedder_folder, dimensions=32)
    assert one._ready().loaded is two._ready().loaded


class Memory:
    """Stands in for a device that holds no more than so many tokens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit: int, error: BaseException) -> None:
        self.sizes: list[int] = []
        real = engine_module.forward_pack

        def forward(decoder: Any, pack: Any, carried: Any) -> Any:
            self.sizes.append(len(pack.tokens))
            if len(pack.tokens) > limit:
                raise error
            return real(decoder, pack, carried)

        monkeypatch.setattr(engine_module, "forward_pack", forward)


CPU_OOM = RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried …")


@pytest.mark.parametrize("error", [CPU_OOM, torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_out_of_memory_halves_the_packs_and_keeps_what_is_done(
    embedder_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    texts = [f"text number {i} " * (1 + i % 3) for i in range(40)]
    expected = LocalEmbedder(embedder_folder).embed_documents(texts).vectors
    memory = Memory(monkeypatch, 60, error)
    embedder = LocalEmbedder(embedder_folder, pack_tokens=200)
    with caplog.at_level(logging.WARNING):
        result = embedder.embed_documents(texts)
    np.testing.assert_allclose(result.vectors, expected, atol=1e-5)
    done = [size for size in memory.sizes if size <= 60]
    assert sum(done) == result.tokens  # every token was computed once
    assert "out of memory" in caplog.text
    tried = len(memory.sizes)
    embedder.embed_documents(texts)
    assert max(memory.sizes[tried:]) <= 60  # the next call does not run into it again


def test_one_text_that_does_not_fit(embedder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Memory(monkeypatch, 8, CPU_OOM)
    with pytest.raises(OutOfMemoryError, match="lower max_length"):
        LocalEmbedder(embedder_folder).embed_documents(["short", "long " * 50])


def test_other_errors_pass_through(embedder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Memory(monkeypatch, 0, RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        LocalEmbedder(embedder_folder).embed_documents(["x"])


def test_many_threads(embedder_folder: Path) -> None:
    embedder = LocalEmbedder(embedder_folder, pack_tokens=64)
    texts = [[f"thread {t} text {i} " * (1 + i % 4) for i in range(12)] for t in range(6)]
    expected = [LocalEmbedder(embedder_folder).embed_documents(part).vectors for part in texts]
    found: list[Any] = [None] * len(texts)

    def work(number: int) -> None:
        found[number] = embedder.embed_documents(texts[number]).vectors

    threads = [threading.Thread(target=work, args=(t,)) for t in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(np.stack(found), np.stack(expected), atol=1e-5)


async def test_loading_does_not_block_the_loop(embedder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = LocalEmbedder(embedder_folder)
    start, loading, may_load = embedder._start, threading.Event(), threading.Event()

    def slow() -> Any:
        loading.set()
        assert may_load.wait(30)
        return start()

    monkeypatch.setattr(embedder, "_start", slow)
    first = asyncio.create_task(embedder.aembed_documents(["a"]))
    assert await asyncio.to_thread(loading.wait, 30)
    timer = threading.Timer(5, may_load.set)  # so that a loop that is held up fails instead of hanging
    timer.start()
    second = asyncio.create_task(embedder.aembed_queries(["b"]))
    await asyncio.sleep(0.05)
    assert not may_load.is_set()
    timer.cancel()
    may_load.set()
    assert (await first).vectors.shape == (await second).vectors.shape == (1, 64)
    embedder.close()


async def test_a_cancelled_call_stops_working(embedder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packs = 0
    running, may_go_on = threading.Event(), threading.Event()
    real = engine_module.forward_pack

    def forward(*args: Any) -> Any:
        nonlocal packs
        packs += 1
        running.set()
        assert may_go_on.wait(30)
        return real(*args)

    monkeypatch.setattr(engine_module, "forward_pack", forward)
    embedder = LocalEmbedder(embedder_folder, pack_tokens=16)
    call = asyncio.create_task(embedder.aembed_documents([f"text {i}" for i in range(400)]))
    assert await asyncio.to_thread(running.wait, 30)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    may_go_on.set()
    await embedder.aembed_queries(["next"])
    assert packs == 2
    embedder.close()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda embedder: pickle.loads(pickle.dumps(embedder))])
def test_copies_and_pickles_carry_the_settings(embedder_folder: Path, duplicate: Any) -> None:
    embedder = LocalEmbedder(embedder_folder, dimensions=48, instruction="Find code").warm_up()
    twin = duplicate(embedder)
    np.testing.assert_array_equal(twin.embed_query("x"), embedder.embed_query("x"))
    assert (twin.model_id, twin.dimensions) == (embedder.model_id, 48)
    assert twin._ready().loaded is embedder._ready().loaded  # a process shares weights under the same options


def test_the_defaults_of_torch_change_nothing(embedder_folder: Path) -> None:
    embedder = LocalEmbedder(embedder_folder)
    before = embedder.embed_documents(["a"]).vectors
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        after = embedder.embed_documents(["a"]).vectors
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    np.testing.assert_array_equal(after, before)


async def test_async_equals_sync_and_does_not_block_the_loop(embedder_folder: Path) -> None:
    embedder = LocalEmbedder(embedder_folder, pack_tokens=16)
    texts = [f"text {i} " * 20 for i in range(150)]
    expected = embedder.embed_documents(texts).vectors
    longest = 0.0
    stop = asyncio.Event()

    async def ticker() -> None:
        nonlocal longest
        while not stop.is_set():
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            longest = max(longest, time.perf_counter() - before)

    watching = asyncio.create_task(ticker())
    started = time.perf_counter()
    documents, queries = await asyncio.gather(embedder.aembed_documents(texts), embedder.aembed_queries(["q"]))
    took = time.perf_counter() - started
    stop.set()
    await watching
    np.testing.assert_array_equal(documents.vectors, expected)
    np.testing.assert_array_equal(queries.vectors, embedder.embed_queries(["q"]).vectors)
    assert longest < max(0.25, took / 3)
    embedder.close()


def test_close_twice_and_use_again(embedder_folder: Path) -> None:
    with LocalEmbedder(embedder_folder) as embedder:
        before = embedder.embed_query("x")
    embedder.close()
    np.testing.assert_array_equal(embedder.embed_query("x"), before)


def test_progress_bar_only_on_request(embedder_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    LocalEmbedder(embedder_folder).embed_documents(["a", "b"])
    assert capsys.readouterr().err == ""
    LocalEmbedder(embedder_folder, show_progress=True).embed_documents(["a", "b"])
    assert "4.00/4.00" in capsys.readouterr().err


def test_sentence_transformer_with_other_pooling_is_refused(embedder_folder: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    theirs = SentenceTransformer(str(embedder_folder), device="cpu")
    theirs[1] = Pooling(64, pooling_mode="mean")
    with pytest.raises(ModelCheckError, match="last token only"):
        LocalEmbedder(theirs)


def test_a_sentence_transformer_has_its_own_place_and_precision(embedder_folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(embedder_folder), device="cpu")
    for option in (
        {"device": "cpu"},
        {"dtype": "float32"},
        {"revision": "main"},
        {"cache_folder": "x"},
        {"local_files_only": True},
    ):
        with pytest.raises(ConfigurationError, match=f"'{next(iter(option))}' can't be set"):
            LocalEmbedder(theirs, **option)  # type: ignore[arg-type]


def test_an_instruction_goes_before_the_prompt_of_a_sentence_transformer(embedder_folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(embedder_folder), device="cpu")
    with pytest.raises(ConfigurationError, match="non-empty"):
        LocalEmbedder(theirs, instruction="")
    theirs.prompts["query"] = "query: "
    with pytest.raises(ModelCheckError, match="give instruction="):
        LocalEmbedder(theirs)
    assert LocalEmbedder(theirs, instruction="Find code").instruction == "Find code"


def test_a_sentence_transformer_in_training_stays_so_and_a_subclass_is_one(embedder_folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    class Mine(SentenceTransformer):
        """Somebody's own."""

    theirs = Mine(str(embedder_folder), device="cpu").train()
    LocalEmbedder(theirs).embed_query("x")
    assert all(module.training for module in theirs.modules())


def test_a_sentence_transformer_without_a_transformer_is_refused(embedder_folder: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    words = StaticEmbedding(Tokenizer.from_file(str(embedder_folder / "tokenizer.json")), embedding_dim=8)
    with pytest.raises(ModelCheckError, match="StaticEmbedding"):
        LocalEmbedder(SentenceTransformer(modules=[words], device="cpu"))


def test_object_that_is_no_model() -> None:
    with pytest.raises(ConfigurationError, match="got dict"):
        LocalEmbedder({})  # type: ignore[arg-type]


def test_a_width_of_zero_is_refused():
    with pytest.raises(ConfigurationError, match="got 0"):
        LocalEmbedder("tiny").embed_documents(["a"], dimensions=0)
