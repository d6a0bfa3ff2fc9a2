"""One knob for thinking: off, on, by effort, by tokens, or left to the question; for a model, or for one call.

Needs DASHSCOPE_API_KEY in the environment. For other servers see other_servers.py.
"""

from qwen3_rag.langchain import ChatQwen3

PUZZLE = (
    "A and B depart from the same location. A leaves 2 hours earlier at 5 km/h. B follows at 15 km/h. "
    "When will B catch up?"
)

model = ChatQwen3("qwen-plus", thinking=False)
print("not thinking:", model.invoke(PUZZLE).text)

# A call's own `thinking` wins and leaves the model as it is. Reasoning and answer are content blocks of their own.
print("\nthinking, at most 2,048 tokens:")
section = None
for chunk in model.stream(PUZZLE, thinking=2048):
    for block in chunk.content_blocks:
        if block["type"] in ("reasoning", "text"):
            if block["type"] != section:
                section = block["type"]
                print(f"\n[{section}]")
            print(block[section], end="", flush=True)

# "auto" thinks where it adds value, by a rule that says why.
print("\n")
for question in (PUZZLE, "What is the capital of France?"):
    message = model.invoke(question, thinking="auto")
    decision, usage = message.response_metadata["thinking"], message.usage_metadata
    print(f"auto: thinking={decision['enabled']}, as {decision['reason']}; {usage['output_tokens']} tokens")
