"""Embedding and reranking by DashScope, with the vectors in Milvus Lite. `DASHSCOPE_API_KEY` is the key.

With `"vllm:Qwen/Qwen3-Embedding-0.6B"` and `base_url=` it would be a server of your own, and nothing else would change,
but for the second part: sparse vectors, which come in the same request as the dense ones, are DashScope's.
"""

import os
from tempfile import TemporaryDirectory

from qwen3_rag import RemoteEmbedder, RemoteReranker
from qwen3_rag.langchain import Qwen3Retriever

TEXTS = [
    "Inserted data is stored in persistent storage such as MinIO or S3, as an incremental log.",
    "Metadata is generated within Milvus, and each module keeps its own in etcd.",
    "Bread needs flour, water, salt and yeast.",
]


def main() -> None:
    key = os.environ["DASHSCOPE_API_KEY"]
    with (
        RemoteEmbedder("dashscope:text-embedding-v4", dimensions=512, api_key=key) as embedder,
        RemoteReranker("dashscope:qwen3-rerank", api_key=key) as reranker,
        TemporaryDirectory() as folder,
    ):
        retriever = Qwen3Retriever.from_texts(TEXTS, embedder, reranker, uri=f"{folder}/milvus.db", top_n=2)
        for document in retriever.invoke("Where does Milvus keep its metadata?"):
            print(f"{document.metadata['relevance_score']:.2f}", document.page_content)
        retriever.source.close()

        # The model's own sparse vectors in place of BM25: which words count, and how much, is learned.
        hybrid = Qwen3Retriever.from_texts(
            TEXTS,
            embedder,
            reranker,
            uri=f"{folder}/milvus.db",
            collection="sparse",
            sparse="model",
            mode="hybrid",
            top_n=1,
        )
        for document in hybrid.invoke("What is etcd for?"):
            ranks = document.metadata.get("dense_rank"), document.metadata.get("sparse_rank")
            print("by dense and by sparse vector number {} and {}:".format(*ranks), document.page_content)
        hybrid.source.close()


if __name__ == "__main__":
    main()
