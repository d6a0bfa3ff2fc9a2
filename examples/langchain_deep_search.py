"""Deep search in LangChain: sub-questions, searched for at the same time, gaps looked for, within limits; then an answer.

Retrieval is offline, with the bundled tiny models; for real answers use `Qwen3Retriever.from_texts(passages,
uri="./milvus.db")`, which takes the 0.6B models from the hub. Planning and answering need DASHSCOPE_API_KEY in the
environment.
"""

from tempfile import TemporaryDirectory

from qwen3_rag.answering import TextPiece
from qwen3_rag.deep_search import DeepAnswer, SearchPiece
from qwen3_rag.langchain import ChatQwen3, MilvusStore, Qwen3Retriever, create_deep_search

PASSAGES = [
    "Milvus stores inserted data as incremental logs in object storage such as MinIO, S3 or Azure Blob Storage.",
    "Metadata of Milvus, such as collection schemas, is stored in etcd.",
    "Milvus Lite keeps vectors, metadata and indexes in one local file.",
    "A file of Milvus Lite can be exported and loaded into a Milvus server.",
    "Bread dough rises because yeast produces carbon dioxide.",
]
QUESTION = "How do Milvus and Milvus Lite differ in where they keep data and metadata?"


def show(answer: DeepAnswer) -> None:
    """Prints how an answer came about."""
    for number, one in enumerate(answer.trace.rounds, start=1):
        print(f"  round {number}, {one.seconds:.2f} s, enough: {one.enough}, gaps: {', '.join(one.gaps) or 'none'}")
        for sub in one.sub_questions:
            print(f"    {sub.passages} passages, {sub.new} of them new: {sub.text}")
    trace = answer.trace
    print(
        f"  {trace.calls} calls, {trace.tokens} tokens, {trace.candidates} passages; ended by {trace.limit or 'itself'}"
    )
    for note in answer.notes:
        print(f"  note: {note}")


with TemporaryDirectory() as folder, MilvusStore("tiny", uri=f"{folder}/milvus.db") as store:
    store.add_texts(PASSAGES)
    retriever = Qwen3Retriever(store, "tiny", k=2)
    search = create_deep_search(retriever, ChatQwen3("qwen-plus"), max_rounds=3, deadline=120, top_n=4, thinking=512)

    for piece in search.stream(QUESTION):
        match piece:
            case SearchPiece(number, questions):
                print(f"round {number} searches for: {'; '.join(questions)}")
            case TextPiece(text):
                print(text, end="", flush=True)
            case DeepAnswer():
                print()
                show(piece)

    # Whichever limit is hit, there is an answer from what had been found: here one call is left, that which answers.
    short = create_deep_search(retriever, ChatQwen3("qwen-plus"), max_calls=1)
    show(short.invoke(QUESTION))
