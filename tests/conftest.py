"""Settings for all tests."""

from hypothesis import settings

# A busy machine is no failure: what takes long is for the timeout to say.
settings.register_profile("qwen3-rag", deadline=None)
settings.load_profile("qwen3-rag")
