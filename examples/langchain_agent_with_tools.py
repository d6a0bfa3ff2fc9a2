"""An agent of LangChain that thinks between its tool calls (`pip install langchain`).

The reasoning goes back to the server while the tools run, where the model wants it, and stays out of the answer.
Needs DASHSCOPE_API_KEY in the environment.
"""

from langchain.agents import create_agent

from qwen3_rag.langchain import ChatQwen3


def travel_time(distance_km: float, speed_km_h: float) -> str:
    """Return the time of travel for a distance in km at a speed in km/h."""
    return f"{distance_km / speed_km_h:.2f} hours"


agent = create_agent(ChatQwen3("qwen-plus", thinking=2048), [travel_time])
state = agent.invoke({"messages": [("user", "What is the time of travel for 120 km at 80 km/h?")]})

for message in state["messages"]:
    for block in message.content_blocks:
        if block["type"] == "reasoning":
            print(f"[{message.type} thinks] {block['reasoning']}")
        elif block["type"] == "tool_call":
            print(f"[{message.type} calls] {block['name']}({block['args']})")
        elif block["type"] == "text":
            print(f"[{message.type}] {block['text']}")
