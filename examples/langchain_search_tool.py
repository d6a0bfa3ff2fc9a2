"""A retriever as a tool of a LangChain agent, which decides itself when to search, and for what (`pip install langchain`).

Retrieval is offline, with the bundled tiny models; for real answers use `Qwen3Retriever.from_texts(passages,
uri="./milvus.db")`, which takes the 0.6B models from the hub. The agent needs DASHSCOPE_API_KEY in the environment.
"""

from tempfile import TemporaryDirectory

from langchain.agents import create_agent

from qwen3_rag.langchain import ChatQwen3, MilvusStore, Qwen3Retriever

PASSAGES = [
    "Milvus stores inserted data as incremental logs in object storage such as MinIO, S3 or Azure Blob Storage.",
    "Metadata of Milvus, such as collection schemas, is stored in etcd.",
    "Bread dough rises because yeast produces carbon dioxide.",
]

with TemporaryDirectory() as folder, MilvusStore("tiny", uri=f"{folder}/milvus.db") as store:
    store.add_texts(PASSAGES, [{"source": f"page {number}"} for number in range(1, len(PASSAGES) + 1)])
    retriever = Qwen3Retriever(store, "tiny", k=3, top_n=1)
    search = retriever.as_tool(name="search_handbook", description="Search the handbook of Milvus for passages.")

    agent = create_agent(ChatQwen3("qwen-plus", thinking=2048), [search])
    state = agent.invoke({"messages": [("user", "Search the handbook: where does Milvus store its metadata?")]})

    for message in state["messages"]:
        if message.type == "tool":
            # The model reads the passages as text; the application has them as documents.
            for document in message.artifact:
                print(f"[found] {document.metadata['relevance_score']:.3f} {document.page_content}")
        for block in message.content_blocks:
            if block["type"] == "tool_call":
                print(f"[calls] {block['name']}({block['args']})")
    print("answer:", state["messages"][-1].text)
