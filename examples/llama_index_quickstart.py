"""LlamaIndex in ten lines: store passages in Milvus Lite, over-fetch, rerank. Offline, with the bundled tiny models.

For real answers use `Qwen3Retriever.from_texts(passages, uri="./milvus.db")`, which takes the 0.6B models from the hub.
"""

from tempfile import TemporaryDirectory

from qwen3_rag.llama_index import MilvusStore, Qwen3Retriever

QUESTION = "How is data stored in Milvus?"
PASSAGES = [
    "Milvus stores inserted data as incremental logs in object storage such as MinIO, S3 or Azure Blob Storage.",
    "Metadata of Milvus, such as collection schemas, is stored in etcd.",
    "An IVF index divides vectors into clusters and searches only the nearest ones.",
    "Bread dough rises because yeast produces carbon dioxide.",
]

with TemporaryDirectory() as folder, MilvusStore(f"{folder}/milvus.db") as store:
    retriever = Qwen3Retriever.from_texts(PASSAGES, "tiny", "tiny", store=store, k=4, top_n=2)
    print(QUESTION)
    for node in retriever.retrieve(QUESTION):
        print(f"relevance {node.score:.3f}, retrieval {node.metadata['retrieval_score']:.3f}: {node.text}")
