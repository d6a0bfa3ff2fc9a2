"""Settings for all tests."""

import os

from hypothesis import settings

# A busy machine is no failure: what takes long is for the timeout to say. Where a change is judged, the examples are the
# same each time; everywhere else they are new ones.
settings.register_profile("qwen3-rag", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("qwen3-rag")
