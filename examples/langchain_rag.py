"""Answers with citations, in LangChain: retrieve, rerank, answer, check the citations; then a follow-up question.

Retrieval is offline, with the bundled tiny models; for real answers use `Qwen3Retriever.from_texts(passages,
uri="./milvus.db")`, which takes the 0.6B models from the hub. The answer needs DASHSCOPE_API_KEY in the environment.
"""

from tempfile import TemporaryDirectory

from qwen3_rag.answering import Answer, ReasoningPiece, TextPiece
from qwen3_rag.langchain import ChatQwen3, MilvusStore, Qwen3Retriever, create_rag_chain

PASSAGES = [
    "Milvus stores inserted data as incremental logs in object storage such as MinIO, S3 or Azure Blob Storage.",
    "Metadata of Milvus, such as collection schemas, is stored in etcd.",
    "An IVF index divides vectors into clusters and searches only the nearest ones.",
    "Bread dough rises because yeast produces carbon dioxide.",
]


def show(answer: Answer) -> None:
    """Prints what is behind an answer."""
    for passage in answer.given:
        cited = "cited" if passage in answer.cited else "given"
        print(
            f"  [{passage.number}] {cited}, relevance {passage.relevance_score:.3f}, {passage.source}: {passage.text}"
        )
    seconds = ", ".join(f"{stage} {taken:.2f} s" for stage, taken in answer.timings.items())
    print(f"  thought: {answer.thinking.enabled}, as {answer.thinking.reason}; {seconds}")
    for note in answer.notes:
        print(f"  note: {note}")


with TemporaryDirectory() as folder, MilvusStore("tiny", uri=f"{folder}/milvus.db") as store:
    store.add_texts(PASSAGES, [{"source": f"page {number}"} for number in range(1, len(PASSAGES) + 1)])
    retriever = Qwen3Retriever(store, "tiny", k=4, top_n=2)
    chain = create_rag_chain(retriever, ChatQwen3("qwen-plus"), thinking="auto")

    answer = chain.invoke("How is data stored in Milvus?")
    print("answer:", answer.text)
    show(answer)

    # A follow-up question is first rewritten, without thinking, so that it can be searched.
    history = [("user", "How is data stored in Milvus?"), ("ai", answer.text)]
    section = None
    for piece in chain.stream(
        {"question": "Why is its metadata kept elsewhere?", "chat_history": history}, thinking=512
    ):
        match piece:
            case ReasoningPiece(text) | TextPiece(text):
                if type(piece) is not section:
                    section = type(piece)
                    print(f"\n[{'reasoning' if section is ReasoningPiece else 'answer'}] ", end="")
                print(text, end="", flush=True)
            case Answer():
                print(f"\n  searched for: {piece.question}")
                show(piece)

    # Where nothing relevant is found no model is asked.
    strict = create_rag_chain(retriever, ChatQwen3("qwen-plus"), score_threshold=1.0)
    print("nothing found:", strict.invoke("What is the capital of France?").text)
