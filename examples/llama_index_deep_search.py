"""Deep search in LlamaIndex: sub-questions, searched for at the same time, gaps looked for, within limits; then an answer.

Retrieval is offline, with the bundled tiny models; for real answers use `Qwen3Retriever.from_texts(passages,
uri="./milvus.db")`, which takes the 0.6B models from the hub. Planning and answering need DASHSCOPE_API_KEY in the
environment.
"""

from tempfile import TemporaryDirectory

from qwen3_rag.llama_index import MilvusStore, Qwen3LLM, Qwen3Retriever, create_deep_search_engine

PASSAGES = [
    "Milvus stores inserted data as incremental logs in object storage such as MinIO, S3 or Azure Blob Storage.",
    "Metadata of Milvus, such as collection schemas, is stored in etcd.",
    "Milvus Lite keeps vectors, metadata and indexes in one local file.",
    "A file of Milvus Lite can be exported and loaded into a Milvus server.",
    "Bread dough rises because yeast produces carbon dioxide.",
]
QUESTION = "How do Milvus and Milvus Lite differ in where they keep data and metadata?"

with TemporaryDirectory() as folder, MilvusStore(f"{folder}/milvus.db") as store:
    retriever = Qwen3Retriever.from_texts(PASSAGES, "tiny", "tiny", store=store, k=2)
    engine = create_deep_search_engine(retriever, Qwen3LLM("qwen-plus"), max_rounds=3, deadline=120, top_n=4)

    response = engine.query(QUESTION)
    print("answer:", response)
    for number, node in enumerate(response.source_nodes, start=1):  # [n] in the text is the n-th of them
        print(f"  [{number}] relevance {node.score:.3f}: {node.text}")

    answer = response.metadata["answer"]
    for number, one in enumerate(answer.trace.rounds, start=1):
        print(f"  round {number}: enough: {one.enough}, gaps: {', '.join(one.gaps) or 'none'}")
        for sub in one.sub_questions:
            print(f"    {sub.passages} passages, {sub.new} of them new: {sub.text}")
    print(f"  {answer.trace.calls} calls, {answer.trace.tokens} tokens; ended by {answer.trace.limit or 'itself'}")

    # Whichever limit is hit, there is an answer from what had been found: here one call is left, that which answers.
    short = engine.with_options(max_calls=1, thinking=512).query(QUESTION).metadata["answer"]
    print("one call:", short, short.notes)
