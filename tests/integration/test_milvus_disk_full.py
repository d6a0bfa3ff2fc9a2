"""A disk that is full: a typed error, nothing lost that was acknowledged, and writing goes on once there is room.

Room for Milvus Lite is as much again as was written since the last flush: it copies that when it is opened.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift && shift && exec "$@"'
WRITE = """
import sys
from pathlib import Path
import numpy as np
from qwen3_rag.errors import Qwen3RagError, StoreError
from qwen3_rag.milvus import MilvusCollection
from qwen3_rag.types import Passage

def batch(i):
    units = np.random.default_rng(i).standard_normal((50, 256)).astype(np.float32)
    return [Passage(f"{i:04}-{j:02}", "text " * 100, {"n": j}) for j in range(50)], units

folder = Path(sys.argv[1])
ballast = folder / "ballast"
ballast.write_bytes(bytes(16_000_000))
path = folder / "m.db"
written = 0
with MilvusCollection(path, sparse=None) as collection:
    try:
        for i in range(1_000):
            collection.upsert(*batch(i))
            written += 1
    except Qwen3RagError as error:
        print(type(error).__name__, isinstance(error, StoreError), str(error).splitlines()[0])
    print("acknowledged", written > 0)
    print("readable", collection.count() >= 50 * written, len(collection.search(batch(0)[1][7], 1)))
ballast.unlink()
with MilvusCollection(path) as collection:
    ids = [passage.id for passage in collection.find({})]
    wanted = [passage.id for i in range(written) for passage in batch(i)[0]]
    print("kept", sorted(set(wanted) - set(ids)), len(ids) == len(set(ids)))
    collection.upsert(*batch(written))
    print("goes on", collection.count() == 50 * (written + 1))
"""


def in_small_disk(megabytes: int, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command that sees a small disk at a folder; nobody else does."""
    source = str(Path(__file__).parents[2] / "src")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    arguments = ["sh", "-c", MOUNT, "sh", f"{megabytes}m", str(folder), *command]
    return subprocess.run(
        ["unshare", "--mount", "--map-root-user", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture
def disk(tmp_path):
    if shutil.which("unshare") is None or in_small_disk(1, tmp_path, "true").returncode != 0:
        pytest.skip("this system lets nobody mount a small disk for a test")
    return tmp_path


def test_nothing_that_was_acknowledged_is_lost_when_the_disk_is_full(disk):
    result = in_small_disk(24, disk, sys.executable, "-c", WRITE, str(disk))
    lines = result.stdout.splitlines()
    assert len(lines) == 5, (result.stdout, result.stderr[-2000:])
    assert lines[0].startswith("StoreError True writing (after 0 of 50 passages) to collection 'qwen3_rag' failed")
    assert "No space left on device" in lines[0]
    assert lines[1:] == ["acknowledged True", "readable True 1", "kept [] True", "goes on True"]
    assert list(disk.iterdir()) == []
