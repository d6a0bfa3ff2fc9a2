"""Answers with citations, in LlamaIndex: retrieve, rerank, answer, check the citations; then a conversation.

Retrieval is offline, with the bundled tiny models; for real answers use `Qwen3Retriever.from_texts(passages,
uri="./milvus.db")`, which takes the 0.6B models from the hub. The answer needs DASHSCOPE_API_KEY in the environment.
"""

from tempfile import TemporaryDirectory

from qwen3_rag.llama_index import MilvusStore, Qwen3LLM, Qwen3Retriever, create_query_engine

PASSAGES = [
    "Milvus stores inserted data as incremental logs in object storage such as MinIO, S3 or Azure Blob Storage.",
    "Metadata of Milvus, such as collection schemas, is stored in etcd.",
    "An IVF index divides vectors into clusters and searches only the nearest ones.",
    "Bread dough rises because yeast produces carbon dioxide.",
]

with TemporaryDirectory() as folder, MilvusStore(f"{folder}/milvus.db") as store:
    retriever = Qwen3Retriever.from_texts(PASSAGES, "tiny", "tiny", store=store, k=4, top_n=2)
    engine = create_query_engine(retriever, Qwen3LLM("qwen-plus"), thinking="auto")

    response = engine.query("How is data stored in Milvus?")
    print("answer:", response)
    for number, node in enumerate(response.source_nodes, start=1):  # [n] in the text is the n-th of them
        print(f"  [{number}] relevance {node.score:.3f}: {node.text}")
    answer = response.metadata["answer"]
    print(f"  cited: {[citation.number for citation in answer.citations]}; thought: {answer.thinking.reason}")

    # The chat engine remembers, and rewrites a follow-up question, without thinking, so that it can be searched.
    chat = engine.with_options(thinking=512).as_chat_engine()
    print("chat:", chat.chat("How is data stored in Milvus?"))
    print("chat: ", end="")
    for text in chat.stream_chat("Why is its metadata kept elsewhere?").response_gen:
        print(text, end="", flush=True)

    # Where nothing relevant is found no model is asked.
    print("\nnothing found:", engine.with_options(score_threshold=1.0).query("What is the capital of France?"))
