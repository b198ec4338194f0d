from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reviewsum_assets.errors import DumpError, LakeError, ReviewsumError
from reviewsum_assets.reviews import readers
from reviewsum_assets.reviews.dumps import find_dumps
from reviewsum_assets.reviews.formats import detect_format
from reviewsum_assets.reviews.grouped import current_grouped_reviews
from reviewsum_assets.reviews.grouping import Progress, group_reviews
from reviewsum_assets.settings import load_settings
from reviewsum_assets.storage.lake import Lake
from tests.reviews.support import group
from tests.support.dumps import FORMATS, reviews_of, write
from tests.support.pipeline import texts, write_dump


@pytest.fixture
def folder(tmp_path: Path, lake: Lake) -> Path:
    """A folder of dumps elsewhere, which the lake links to."""
    assert lake.directory is not None
    folder = tmp_path / "dumps"
    write_dump(folder / "a.csv", texts(1))
    (lake.directory / "review_dumps").symlink_to(folder)
    return folder


def found(lake: Lake) -> list[str]:
    return [dump.key for dump in find_dumps(lake, load_settings())]


def test_a_linked_folder_and_links_within_it_are_read(lake: Lake, folder: Path) -> None:
    (folder / "b.csv").symlink_to(folder / "a.csv")
    assert found(lake) == ["review_dumps/a.csv", "review_dumps/b.csv"]


@pytest.fixture(params=["file", "folder"])
def swap(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> Callable[[], None]:
    """Replace the dump ``sub/b.csv``, or its folder, by a link to a private one."""
    private = write_dump(tmp_path / "private" / "b.csv", texts(1))
    public = write_dump(folder / "sub" / "b.csv", texts(2))
    if request.param == "folder":
        private, public = private.parent, public.parent

    def swapped() -> None:
        public.rename(tmp_path / "away")
        public.symlink_to(private)

    return swapped


def test_a_link_that_is_put_in_place_after_the_look_is_not_followed(
    lake: Lake, folder: Path, tmp_path: Path, swap: Callable[[], None]
) -> None:
    _, dump = find_dumps(lake, load_settings())
    swap()
    error = rf"it is a link to {tmp_path}/private/b\.csv, outside of {folder}"
    with pytest.raises(LakeError, match=error), dump.open():
        pass


def test_a_link_that_is_put_in_place_while_a_dump_is_opened_is_not_followed(
    lake: Lake, folder: Path, swap: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, dump = find_dumps(lake, load_settings())
    realpath = os.path.realpath

    def swap_when_resolved(path: str | Path) -> str:
        resolved = realpath(path)
        if resolved == str(folder / "sub" / "b.csv"):
            swap()
        return resolved

    monkeypatch.setattr(os.path, "realpath", swap_when_resolved)
    error = r"cannot read .*(symbolic links|Not a directory)"
    with pytest.raises(LakeError, match=error), dump.open():
        pass


def test_a_pipe_put_in_place_after_the_check_does_not_block(lake: Lake, folder: Path) -> None:
    (dump,) = find_dumps(lake, load_settings())
    (folder / "a.csv").unlink()
    os.mkfifo(folder / "a.csv")
    with pytest.raises(LakeError, match=r"a\.csv: it is not a regular file"), dump.open():
        pass


def test_a_link_to_a_file_or_folder_elsewhere_is_refused(
    lake: Lake, folder: Path, tmp_path: Path
) -> None:
    private = write_dump(tmp_path / "private" / "letters.csv", texts(1))
    for target in (private, private.parent):
        (folder / "link").symlink_to(target)
        with pytest.raises(DumpError, match=r"link is a link to .* outside of"):
            found(lake)
        (folder / "link").unlink()


def reviews(product: str) -> bytes:
    return FORMATS["2018"](reviews_of(product, 400))


def while_reading(lake: Lake, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> str:
    """Change dumps after the first of many batches; returns the error of grouping."""

    def on_progress(_: Progress) -> None:
        if not happened:
            happened.append(True)
            happens()

    happened: list[bool] = []
    monkeypatch.setattr(readers, "BATCH_BYTES", 8_000)
    settings = load_settings(lake=lake.uri)
    group_reviews(lake, settings)
    before = current_grouped_reviews(lake), lake.list("grouped_reviews"), lake.list("quarantine")
    lake.put("review_dumps/b", reviews("B3"))
    with pytest.raises(ReviewsumError) as caught:
        group_reviews(lake, settings, on_progress)
    after = current_grouped_reviews(lake), lake.list("grouped_reviews"), lake.list("quarantine")
    assert after == before
    return str(caught.value)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("replacement", [reviews("B2"), reviews("B1")[:9_000], None])
def test_a_dump_that_is_replaced_while_it_is_read_is_an_error_and_nothing_is_current(
    any_lake: Lake,
    monkeypatch: pytest.MonkeyPatch,
    pack: Callable[[bytes], bytes],
    replacement: bytes | None,
) -> None:
    any_lake.put("review_dumps/a", pack(reviews("B1")))

    def replaced() -> None:
        if replacement is None:
            any_lake.delete("review_dumps/a")
        else:
            any_lake.put("review_dumps/a", pack(replacement))

    error = while_reading(any_lake, monkeypatch, replaced)
    happened = "was removed" if replacement is None else "changed or was replaced"
    assert f"review_dumps/a {happened} while it was read: wait until it is complete" in error


@pytest.mark.parametrize("mode", ["ab", "r+b"])
def test_a_dump_that_is_written_to_while_it_is_read_is_an_error(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    def written_to() -> None:
        assert lake.directory is not None
        with (lake.directory / "review_dumps" / "a").open(mode) as file:
            file.write(b"x")

    lake.put("review_dumps/a", reviews("B1"))
    error = while_reading(lake, monkeypatch, written_to)
    assert "review_dumps/a changed or was replaced while it was read" in error


@pytest.mark.parametrize("layout", ["Parquet", "CSV", "TSV", "grouped"])
def test_a_dump_of_any_layout_that_was_replaced_after_it_was_listed_is_an_error(
    any_lake: Lake, layout: str
) -> None:
    def content(product: str) -> bytes:
        if layout == "grouped":
            return f"product_id,all_reviews,review_count\n{product},its text,9\n".encode()
        return FORMATS[layout](reviews_of(product))

    any_lake.put("review_dumps/a", content("B1"))
    (dump,) = find_dumps(any_lake, load_settings())
    any_lake.put("review_dumps/a", content("B2"))
    with pytest.raises(LakeError, match="review_dumps/a changed or was replaced"):
        list(readers.read_batches(dump, detect_format(dump, {})))


@pytest.mark.parametrize(
    "happens",
    [
        lambda lake: lake.put("review_dumps/c", b"new"),
        lambda lake: lake.delete("review_dumps/b"),
        lambda lake: lake.put("review_dumps/b", b"{}"),
    ],
    ids=["came", "went", "changed"],
)
def test_dumps_that_come_or_go_while_another_one_is_read_are_named(
    any_lake: Lake, monkeypatch: pytest.MonkeyPatch, happens: Callable[[Lake], None]
) -> None:
    any_lake.put("review_dumps/a", reviews("B1"))
    error = while_reading(any_lake, monkeypatch, lambda: happens(any_lake))
    assert "review_dumps/b" in error or "review_dumps/c" in error
    assert "run it again once all uploads" in error or "wait until it is complete" in error


def test_a_named_dump_that_is_replaced_after_it_was_read_is_an_error(
    lake: Lake, tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.write_bytes(reviews(path.name))

    def on_progress(progress: Progress) -> None:
        if progress.file == str(paths[1]):
            (tmp_path / "other").write_bytes(reviews("other"))
            (tmp_path / "other").replace(paths[0])

    with pytest.raises(
        DumpError, match=f"were added, changed or removed during reading: {paths[0]}"
    ):
        group_reviews(lake, load_settings(dumps=tuple(map(str, paths))), on_progress)
    assert current_grouped_reviews(lake) is None


def test_a_grouped_table_that_is_current_is_not_replaced_by_one_of_a_mixture(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = b"product_id,all_reviews,review_count\n"
    lake.put("review_dumps/a", header + b"".join(b"B%d,a text,9\n" % n for n in range(2_000)))
    record, _ = group_reviews(lake, load_settings())
    lake.delete(record.tables[-1])  # so that they are grouped again, under the same keys
    before = lake.list("grouped_reviews")

    def on_progress(_: Progress) -> None:
        lake.put("review_dumps/b", header + b"C,a text,9\n")

    with pytest.raises(DumpError, match="review_dumps/b"):
        group_reviews(lake, load_settings(), on_progress)
    assert lake.list("grouped_reviews") == before


@pytest.mark.parametrize(
    "name", ["a%2Fb.json", "%2e%2e", "a b#?.json", "[a]*.json", "~a", "\u202ea.json", "😀", "a:b"]
)
def test_a_dump_may_have_any_name_that_a_lake_can_hold(
    lake: Lake, tmp_path: Path, name: str
) -> None:
    path = write(tmp_path / "lake" / "review_dumps" / name, reviews("B1"))
    assert found(lake) == [f"review_dumps/{name}"]
    assert group(Lake.open(str(tmp_path / "other")), path).record.counts.reviews_kept == 400


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "a\x1b[31m", os.fsdecode(b"\xff")])
def test_a_dump_with_a_hostile_name_is_refused(lake: Lake, tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "lake" / "review_dumps" / name, reviews("B1"))
    with pytest.raises(ReviewsumError):
        group(lake)
    with pytest.raises(ReviewsumError, match="illegal place"):
        find_dumps(lake, load_settings(dumps=(path,)))


def test_a_broken_link_or_a_pipe_is_refused(lake: Lake, folder: Path, tmp_path: Path) -> None:
    (folder / "broken").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DumpError, match="broken is no file"):
        found(lake)
    (folder / "broken").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(DumpError, match="pipe is no file"):
        found(lake)


def test_missing_dumps_are_named_with_the_remedy(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(DumpError, match=r"put dumps under .*review_dumps/"):
        find_dumps(lake, load_settings())
    with pytest.raises(DumpError, match=r"nowhere\.json does not exist"):
        find_dumps(lake, load_settings(dumps=(str(tmp_path / "nowhere.json"),)))
