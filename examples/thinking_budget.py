"""A budget of reasoning tokens that several calls share, and its ledger.

Each call may think with what is left; once that is not worth a thought, the calls answer without thinking. Models, threads
and both frameworks can share one budget. Needs DASHSCOPE_API_KEY in the environment.
"""

from qwen3_rag.langchain import ChatQwen3
from qwen3_rag.thinking import Price, ThinkingBudget

QUESTIONS = [
    "How many r's are in 'strawberry'?",
    "Which is larger, 9.11 or 9.9?",
    "A bat and a ball cost 1.10 together. The bat costs 1 more than the ball. What does the ball cost?",
]

# Small, so that it runs out. The prices are made up: put in what your account pays per 1,000,000 tokens.
budget = ThinkingBudget(300, prices={"qwen-plus": Price(input=1, output=3, thinking_output=10, currency="USD")})
model = ChatQwen3("qwen-plus", thinking=True, budget=budget)

for question in QUESTIONS:
    message = model.invoke(question)
    decision = message.response_metadata["thinking"]
    print(f"{question}\n  thinking={decision['enabled']}: {decision['reason']}\n  {message.text}\n")

print(budget)
