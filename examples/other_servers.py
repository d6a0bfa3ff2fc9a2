"""The same knob on other servers: `python other_servers.py deepseek openrouter vllm`, or one or two of them.

Needs DEEPSEEK_API_KEY, OPENROUTER_API_KEY, and a vLLM on this machine. Each address can be another one, for example
VLLM_BASE_URL=http://gpu:8000/v1.
"""

import os
import sys

from qwen3_rag.langchain import ChatQwen3

QUESTION = "Which is larger, 9.11 or 9.9?"
SERVERS = {
    "deepseek": ("https://api.deepseek.com", "deepseek-v4-flash"),
    "openrouter": ("https://openrouter.ai/api/v1", "qwen/qwen3.5-397b-a17b"),
    "vllm": ("http://localhost:8000/v1", "Qwen/Qwen3-8B"),
}

for name in sys.argv[1:] or SERVERS:
    url, model_name = SERVERS[name]
    # Of these, a vendor's own URL would be enough: key and dialect follow from it. They are named because the address may
    # be a gateway's, where no key is sent unless it is given.
    model = ChatQwen3(
        model_name,
        base_url=os.environ.get(f"{name.upper()}_BASE_URL", url),
        api_key=os.environ.get(f"{name.upper()}_API_KEY"),
        dialect=name,
    )
    for thinking in (False, 1024):
        message = model.invoke(QUESTION, thinking=thinking)
        reasoning = message.additional_kwargs.get("reasoning_content", "")
        print(f"{name}, thinking={thinking}: {len(reasoning)} characters of reasoning, then: {message.text}")
        # What a server can't do of what was asked is told: DeepSeek takes efforts, no numbers.
        for note in message.response_metadata["notes"]:
            print("  note:", note)
