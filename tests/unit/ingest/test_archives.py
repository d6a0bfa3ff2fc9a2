"""Zip archives: what is read from them, and what a hostile one can't do."""

from __future__ import annotations

import stat
import struct
import tracemalloc
import zipfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qwen3_rag.errors import InputError
from qwen3_rag.ingest import Limits, ingest
from tests.fakes import WordEmbedder
from tests.unit.ingest.stores import MemoryCollection

SECTION = "# A\n\ntext\n"


def archive(path, files: dict, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as out:
        for name, content in files.items():
            out.writestr(name, content)
    return path


def read(path, **options):
    collection = MemoryCollection()
    report = ingest(path, WordEmbedder(8), collection, **options)
    return report, {about["source"] for _, about, _ in collection.content.values()}


def reasons(report) -> dict[str, str]:
    return {failure.path.split("!/")[1]: failure.reason for failure in report.failed}


def test_an_archive_is_read_as_the_folder_that_it_was(tmp_path):
    files = {"docs/b.md": "# B\n\ntwo\n", "docs/sub/a.TXT": "one", "docs/x.png": b"\x89PNG", "docs/.git/x.md": SECTION}
    path = archive(tmp_path / "docs.zip", files)
    report, sources = read(path)
    assert sources == {"docs/b.md", "docs/sub/a.TXT"}
    assert (report.files, report.complete, report.skipped) == (2, True, ())
    before = sorted(tmp_path.rglob("*"))
    with zipfile.ZipFile(path) as opened:
        opened.extractall(tmp_path / "out")
    collections = MemoryCollection(), MemoryCollection()
    ingest(path, WordEmbedder(8), collections[0], label="x")
    ingest(tmp_path / "out", WordEmbedder(8), collections[1], label="x")
    assert collections[0].content == collections[1].content
    assert before == [path]  # nothing was unpacked


def test_a_part_of_an_archive(tmp_path):
    path = archive(tmp_path / "a.zip", {"en/faq/a.md": SECTION, "en/faq/deep/b.md": SECTION, "zh/faq/a.md": SECTION})
    assert read(path, include="en/faq/*.md")[1] == {"en/faq/a.md"}
    assert read(path, include="**/a.md")[1] == {"en/faq/a.md", "zh/faq/a.md"}
    with pytest.raises(InputError, match=r"matches include='fr/\*'"):
        read(path, include="fr/*")


@pytest.mark.parametrize(
    "name",
    ["../evil.md", "docs/../../evil.md", "/etc/evil.md", "C:/evil.md", "c:evil.md", "..\\evil.md", "\\\\host\\evil.md"],
)
def test_a_path_that_leads_out_is_refused_and_the_rest_is_read(tmp_path, name):
    report, sources = read(archive(tmp_path / "a.zip", {name: SECTION, "good.md": SECTION}))
    assert sources == {"good.md"}
    (failure,) = report.failed
    assert "leads out of the archive" in failure.reason
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.zip"]


def test_links_and_inner_archives_are_passed_over_and_named(tmp_path):
    link = zipfile.ZipInfo("link.md")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    inner = (tmp_path / "inner.zip", {"a.md": SECTION})
    files = {link: "/etc/passwd", "inner.zip": archive(*inner).read_bytes(), "x.tar.gz": b"", "a.md": SECTION}
    report, sources = read(archive(tmp_path / "a.zip", files))
    assert sources == {"a.md"}
    assert report.complete
    assert {f.path.split("!/")[1] for f in report.skipped} == {"link.md", "inner.zip", "x.tar.gz"}


def test_bombs_are_refused(tmp_path):
    files = {"bomb.md": "a" * 4_000_000, "small.md": "a" * 100_000, "good.md": SECTION}
    report, sources = read(archive(tmp_path / "a.zip", files))
    assert sources == {"small.md", "good.md"}
    assert "archive_ratio=200" in reasons(report)["bomb.md"]
    report, sources = read(tmp_path / "a.zip", limits=Limits(archive_ratio=10_000, file_bytes=1_000_000))
    assert "4,000,000 bytes, more than the limit file_bytes=1,000,000" in reasons(report)["bomb.md"]
    with pytest.raises(InputError, match="archive_bytes=100,000"):
        read(tmp_path / "a.zip", limits=Limits(archive_bytes=100_000))
    with pytest.raises(InputError, match=r"3 entries .* archive_entries=2"):
        read(tmp_path / "a.zip", limits=Limits(archive_entries=2))


def test_what_unpacks_to_more_than_it_says_is_refused(tmp_path):
    """The directory and the header say 10 bytes; there are four million."""
    path = archive(tmp_path / "a.zip", {"liar.md": "b" * 4_000_000, "good.md": SECTION})
    data = path.read_bytes().replace(struct.pack("<L", 4_000_000), struct.pack("<L", 10))
    path.write_bytes(data)
    report, sources = read(path)
    assert sources == {"good.md"}
    assert "broken" in reasons(report)["liar.md"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_can_not_be_unpacked_bit_by_bit_is_not_unpacked(tmp_path, method):
    """A few bytes say that they are ten and are 50 MB, which `zipfile` finds out when it has them all."""
    path = archive(tmp_path / "a.zip", {"bomb.md": bytes(50_000_000)}, method)
    with zipfile.ZipFile(path, "a") as out:
        out.writestr("good.md", SECTION, zipfile.ZIP_DEFLATED)
    path.write_bytes(path.read_bytes().replace(struct.pack("<L", 50_000_000), struct.pack("<L", 10)))
    tracemalloc.start()
    report, sources = read(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sources == {"good.md"}
    assert f"packed by method {method}" in reasons(report)["bomb.md"]
    assert most < 10_000_000


def test_entries_are_counted_and_not_believed(tmp_path):
    path = archive(tmp_path / "a.zip", {f"{i}.md": SECTION for i in range(20)})
    data = bytearray(path.read_bytes())
    struct.pack_into("<HH", data, data.rfind(b"PK\5\6") + 8, 1, 1)
    path.write_bytes(data)
    assert read(path)[0].files == 20
    with pytest.raises(InputError, match=r"20 entries .* archive_entries=10"):
        read(path, limits=Limits(archive_entries=10))


def test_a_large_archive_may_not_have_two_ends(tmp_path):
    """The locator says where the directory's end is; `zipfile` looks before the locator all the same, or did."""
    path = archive(tmp_path / "a.zip", {f"{i}.md": SECTION for i in range(20)}, zipfile.ZIP_STORED)
    data = path.read_bytes()
    at = data.rfind(b"PK\5\6")
    _, _, _, _, entries, size, start, _ = struct.unpack_from("<4s4H2LH", data, at)

    def end(entries: int, size: int) -> bytes:
        return struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, size, start)

    locator = struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(data[:at] + end(entries, size) + locator + last)
    assert read(path, limits=Limits(archive_entries=20))[0].files == 20
    for ends in ((end(1, 50), end(10**6, 10**9)), (end(10**6, 10**9), end(1, 50))):
        path.write_bytes(data[:at] + b"".join(ends) + locator + last)
        with pytest.raises(InputError, match=r"1,000,000 entries in a directory of 1,000,000,000 bytes"):
            read(path)


def test_a_directory_that_is_too_large_is_not_read(tmp_path):
    path = archive(tmp_path / "a.zip", {"a.md": SECTION})
    data = bytearray(path.read_bytes())
    at = data.rfind(b"PK\5\6")
    struct.pack_into("<H", data, at + 10, 1)
    struct.pack_into("<L", data, at + 12, 0x7FFFFFFF)  # 2 GiB of directory
    path.write_bytes(data)
    with pytest.raises(InputError, match="more than the limit"):
        read(path)


def test_broken_entries_are_named_and_the_rest_is_read(tmp_path):
    path = archive(tmp_path / "a.zip", {"bad.md": "# Bad\n\n" + "x" * 50, "good.md": SECTION}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"xxxxx", b"xxyxx", 1))
    report, sources = read(path)
    assert sources == {"good.md"}
    assert "Bad CRC-32" in reasons(report)["bad.md"]


def test_encrypted_entries_are_named(tmp_path):
    path = archive(tmp_path / "a.zip", {"secret.md": SECTION, "good.md": SECTION})
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.find(mark) + offset] |= 1
    path.write_bytes(data)
    report, sources = read(path)
    assert sources == {"good.md"}
    assert "encrypted" in reasons(report)["secret.md"]


def test_a_name_that_is_there_twice_is_read_once(tmp_path):
    path = archive(tmp_path / "a.zip", {"a.md": SECTION, "b.md": "# Other\n\ntext\n"})
    path.write_bytes(path.read_bytes().replace(b"b.md", b"a.md"))
    report, _ = read(path)
    assert report.added == 1
    assert "there twice" in reasons(report)["a.md"]


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\3\4 but no more", b"PK\5\6" + b"\0" * 10])
def test_what_is_no_archive_says_so(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.zip'"):
        read(tmp_path / "a.zip")


def test_an_archive_without_texts_says_so(tmp_path):
    with pytest.raises(InputError, match=r"no .*\.txt file in the archive"):
        read(archive(tmp_path / "a.zip", {"a.png": b""}))


def test_names_in_utf8_that_do_not_say_so(tmp_path):
    path = archive(tmp_path / "a.zip", {"xxxxxx.md": SECTION, "café.md": SECTION})
    path.write_bytes(path.read_bytes().replace(b"xxxxxx", "文档".encode()))
    assert read(path)[1] == {"文档.md", "café.md"}


def test_files_that_are_not_utf8_are_named(tmp_path):
    report, sources = read(archive(tmp_path / "a.zip", {"a.md": "é".encode("latin-1"), "b.md": SECTION}))
    assert sources == {"b.md"}
    assert "not UTF-8" in reasons(report)["a.md"]


def test_an_archive_is_closed_again(tmp_path, recwarn):
    path = archive(tmp_path / "a.zip", {"a.md": SECTION})
    read(path)
    path.unlink()
    assert not [w for w in recwarn if issubclass(w.category, ResourceWarning)]


@given(st.binary(max_size=60), st.integers(0, 400), st.booleans())
@example(b"\x00\x00@", 144, False)  # a version of the format that zipfile does not know
def test_no_bytes_do_more_than_fail(tmp_path_factory, noise, at, cut):
    path = archive(tmp_path_factory.mktemp("zip") / "a.zip", {"a.md": SECTION * 3, "b.txt": "x" * 40})
    data = path.read_bytes()
    at = min(at, len(data))
    path.write_bytes(data[:at] + noise + (b"" if cut else data[at + len(noise) :]))
    try:
        report, sources = read(path)
    except InputError:
        return
    assert len(sources) <= report.files <= 2
