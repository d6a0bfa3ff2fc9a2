"""A retriever as a tool of a LlamaIndex agent, which decides itself when to search, and for what.

Retrieval is offline, with the bundled tiny models; for real answers use `Qwen3Retriever.from_texts(passages,
uri="./milvus.db")`, which takes the 0.6B models from the hub. The agent needs DASHSCOPE_API_KEY in the environment.
"""

import asyncio
from tempfile import TemporaryDirectory

from llama_index.core.agent.workflow import FunctionAgent, ToolCallResult

from qwen3_rag.llama_index import MilvusStore, Qwen3LLM, Qwen3Retriever

PASSAGES = [
    "Milvus stores inserted data as incremental logs in object storage such as MinIO, S3 or Azure Blob Storage.",
    "Metadata of Milvus, such as collection schemas, is stored in etcd.",
    "Bread dough rises because yeast produces carbon dioxide.",
]


async def main() -> None:
    with TemporaryDirectory() as folder, MilvusStore(f"{folder}/milvus.db") as store:
        retriever = Qwen3Retriever.from_texts(PASSAGES, "tiny", "tiny", store=store, k=3, top_n=1)
        search = retriever.as_tool("search_handbook", "Search the handbook of Milvus for passages.")

        agent = FunctionAgent(tools=[search], llm=Qwen3LLM("qwen-plus", thinking=2048))
        run = agent.run("Search the handbook: where does Milvus store its metadata?")
        async for event in run.stream_events():
            if isinstance(event, ToolCallResult):
                print(f"[calls] {event.tool_name}({event.tool_kwargs})")
                # The model reads the passages as text; the application has them as nodes.
                for node in event.tool_output.raw_output:
                    print(f"[found] {node.score:.3f} {node.text}")
        print("answer:", await run)


asyncio.run(main())
