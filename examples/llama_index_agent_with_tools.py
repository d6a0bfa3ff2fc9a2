"""An agent of LlamaIndex that thinks between its tool calls, and shows it while it does.

Needs DASHSCOPE_API_KEY in the environment.
"""

import asyncio

from llama_index.core.agent.workflow import AgentStream, FunctionAgent, ToolCallResult

from qwen3_rag.llama_index import Qwen3LLM


def travel_time(distance_km: float, speed_km_h: float) -> str:
    """Return the time of travel for a distance in km at a speed in km/h."""
    return f"{distance_km / speed_km_h:.2f} hours"


async def main() -> None:
    agent = FunctionAgent(tools=[travel_time], llm=Qwen3LLM("qwen-plus", thinking=2048))
    run = agent.run("What is the time of travel for 120 km at 80 km/h?")
    async for event in run.stream_events():
        if isinstance(event, AgentStream) and event.thinking_delta:
            print(event.thinking_delta, end="", flush=True)
        elif isinstance(event, ToolCallResult):
            print(f"\n[{event.tool_name}({event.tool_kwargs}) -> {event.tool_output}]")
    print(f"\nanswer: {await run}")


asyncio.run(main())
