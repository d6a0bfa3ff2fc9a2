"""`python -m qwen3_rag.cli` is the command `qwen3-rag`."""

from __future__ import annotations

import sys

from qwen3_rag.cli import main

sys.exit(main())
