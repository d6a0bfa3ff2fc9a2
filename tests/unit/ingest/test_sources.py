"""Files, folders, patterns, labels: what is found, under which source and root."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from qwen3_rag.errors import ConfigurationError, InputError
from qwen3_rag.ingest import Limits, ingest
from tests.fakes import WordEmbedder
from tests.unit.ingest.stores import MemoryCollection


@pytest.fixture
def docs(tmp_path, monkeypatch):
    folder = tmp_path / "docs"
    for name in ("a.md", "sub/b.md", "sub/deep/c.md", "sub/d.txt", "[x]/e.md", ".hidden/f.md"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n\ntext of {name}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return folder


def stored(paths, **options) -> dict[str, tuple[str, ...]]:
    collection = MemoryCollection()
    ingest(paths, WordEmbedder(8), collection, **options)
    return {about["source"]: tuple(about["roots"]) for _, about, _ in collection.content.values()}


@pytest.mark.parametrize(
    ("pattern", "sources"),
    [
        ("docs/*.md", {"a.md"}),
        ("docs/**/*.md", {"a.md", "sub/b.md", "sub/deep/c.md", "[x]/e.md"}),
        ("docs/*/?.md", {"sub/b.md", "[x]/e.md"}),
        ("docs/sub/*", {"b.md", "d.txt"}),
        ("docs/[a]*", {"a.md"}),
        ("docs/**.md", {"a.md"}),
        ("docs/**", {"a.md", "sub/b.md", "sub/deep/c.md", "sub/d.txt", "[x]/e.md"}),
        ("docs/**/**/deep/*", {"sub/deep/c.md"}),
        ("docs/[x]", {"e.md"}),  # a folder of that name is that folder
        ("d*s/a.md", {"docs/a.md"}),
    ],
)
def test_patterns(docs, pattern, sources):
    assert stored(pattern).keys() == sources
    assert stored(docs.parent / pattern).keys() == sources


def test_a_pattern_without_a_match_is_an_error(docs):
    with pytest.raises(InputError, match=r"no .* file matches the pattern 'docs/\*\.rst'"):
        stored("docs/*.rst")
    with pytest.raises(InputError, match="does not exist"):
        stored("docs/none.md")


def test_include_chooses_below_a_folder(docs):
    assert stored("docs", include="sub/*").keys() == {"sub/b.md", "sub/d.txt"}
    assert stored("docs", include="**/c.md").keys() == {"sub/deep/c.md"}
    with pytest.raises(InputError, match=r"in folder 'docs' that matches include='\*\.rst'"):
        stored("docs", include="*.rst")


def test_a_root_says_what_was_given_and_where_it_lies_without_telling_it(docs, tmp_path):
    roots = {r for (r,) in stored("docs").values()}
    assert len(roots) == 1
    assert roots == {r for (r,) in stored(docs).values()} == {r for (r,) in stored("docs/../docs/").values()}
    assert str(tmp_path) not in roots.pop()
    others = [stored("docs/a.md"), stored("docs/*.md"), stored("docs", include="a.md"), stored("docs", label="mine")]
    assert len({each["a.md"] for each in [*others, stored("docs")]}) == 5
    assert others[-1]["a.md"] == ("mine",)


def test_a_file_below_two_given_things_is_read_once(docs):
    assert len(stored(["docs/sub", "docs/sub/b.md", "docs/sub/*.md"])) == 3


@pytest.mark.parametrize("given", ["docs", "docs/**/*.md", "docs/*/*"])
def test_a_folder_that_can_not_be_read_is_named(docs, monkeypatch, given):
    """Passed over in silence, its files would seem to be gone, and pruning would remove them."""
    scandir = os.scandir

    def refused(folder):
        if str(folder).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refused)
    report = ingest(given, WordEmbedder(8), MemoryCollection())
    assert [(f.path, f.reason) for f in report.failed] == [(str(Path("docs", "sub")), "Permission denied")]


@pytest.mark.parametrize("given", ["docs", "docs/**/*.md"])
def test_a_link_that_leads_nowhere_is_named(docs, given):
    (docs / "link.md").symlink_to(docs.parent / "not-mounted" / "a.md")
    (docs / "link.png").symlink_to(docs.parent / "not-mounted" / "a.png")
    (failure,) = ingest(given, WordEmbedder(8), MemoryCollection()).failed
    assert (failure.path, failure.reason) == (str(Path("docs", "link.md")), "No such file or directory")
    assert ingest(given, WordEmbedder(8), MemoryCollection(), include="a*").failed == ()


def test_a_pattern_follows_links_to_folders_only_where_it_names_them(docs):
    (docs / "link").symlink_to(docs / "sub")
    (docs / "file").symlink_to(docs / "a.md")
    assert stored("docs/l*/b.md").keys() == {"link/b.md"}
    assert "link/b.md" not in stored("docs/**/*.md")
    (docs / "lost").symlink_to(docs / "not-mounted")
    (failure,) = ingest("docs/*/*", WordEmbedder(8), MemoryCollection()).failed
    assert (failure.path, failure.reason) == (str(Path("docs", "lost")), "No such file or directory")


def test_names_that_a_path_may_have(docs, tmp_path):
    (tmp_path / "~nobody.md").write_text("# A\n\ntext\n", encoding="utf-8")
    assert stored("~nobody.md").keys() == {"~nobody.md"}
    with pytest.raises(InputError, match="does not exist"):
        stored("~nobody/docs")
    with pytest.raises(InputError, match="File name too long"):
        stored("x" * 300)


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names are Unicode there")
def test_a_folder_whose_name_is_no_unicode(docs):
    folder = os.fsdecode(b"caf\xe9")
    docs.rename(folder)
    for (root,) in stored(folder).values():
        assert root.encode().startswith(b"caf?-")


def test_files_over_the_limit_are_named(docs):
    (docs / "long.md").write_text("x" * 2000, encoding="utf-8")
    report = ingest("docs", WordEmbedder(8), MemoryCollection(), limits=Limits(file_bytes=1000))
    (failure,) = report.failed
    assert failure.path.endswith("long.md")
    assert failure.reason == "2,000 bytes, more than the limit file_bytes=1,000"
    assert report.files == 5


@pytest.mark.parametrize("options", [{"label": ""}, {"label": 3}, {"include": " "}])
def test_useless_names_are_refused(docs, options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        stored("docs", **options)


@pytest.mark.parametrize(
    "limit", [{"file_bytes": 0}, {"archive_ratio": -1}, {"timeout": float("nan")}, {"redirects": True}]
)
def test_useless_limits_are_refused(limit):
    with pytest.raises(ConfigurationError, match=next(iter(limit))):
        Limits(**limit)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_what_is_no_file_is_not_waited_for(docs):
    os.mkfifo(docs / "pipe.md")
    assert "pipe.md" not in stored("docs")
    with pytest.raises(InputError, match="is no file"):
        stored("docs/pipe.md")


@pytest.mark.parametrize("given", ["", "  ", [""], ["a.md", ""]])
def test_an_empty_path_is_not_the_present_folder(docs, monkeypatch, given):
    monkeypatch.chdir(docs)
    with pytest.raises(InputError, match=r"is empty: for the present folder give '\.'"):
        stored(given)


def test_other_addresses_are_refused():
    for address in ("ftp://host/a.md", "s3://bucket/a.zip", "file:///etc/a.md"):
        with pytest.raises(InputError, match="give an http"):
            stored(address)
