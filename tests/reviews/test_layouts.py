"""Dialects, containers and layouts of dumps as people hold them, and the user's own columns."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sys
import tarfile
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from reviewsum_assets.errors import DumpError
from reviewsum_assets.storage.lake import Lake
from tests.reviews.support import Grouped, group
from tests.support.dumps import amazon_2014, amazon_2018, json_lines, reviews_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DAYS = [datetime(2020, month, 15, tzinfo=UTC) for month in range(1, 7)]
STARS = [5, 4, 1, 3, 5, 2]
TEXTS = [f"Café number {n}: it works as described, mostly." for n in range(6)]


def rows(*, names: str, date: str = "%Y-%m-%d", **more: object) -> list[dict[str, object]]:
    """Six reviews with the columns id, reviewer, text, rating, date under the given names."""
    product, reviewer, text, rating, when = names.split()
    return [
        {
            product: "P1",
            reviewer: f"U{n}",
            text: TEXTS[n],
            rating: STARS[n],
            when: DAYS[n].strftime(date),
            **more,
        }
        for n in range(6)
    ]


PLAIN = rows(names="product_id reviewer_id review_text rating review_date")


def csv(table: list[dict[str, Any]], separator: str = ",", **options: Any) -> bytes:
    text: str = pl.DataFrame(table).write_csv(separator=separator, **options)
    return text.encode()


def parquet(table: list[dict[str, Any]], **columns: pl.Expr) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(table).with_columns(**columns).write_parquet(buffer)
    return buffer.getvalue()


def zip_of(content: bytes, name: str = "a.csv") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def require_six(found: Grouped) -> dict[str, Any]:
    (product,) = found.products.to_dicts()
    assert (product["product_id"], product["review_count"]) == ("P1", 6)
    assert product["avg_rating"] == pytest.approx(20 / 6)
    assert product["newest_review_timestamp"] == int(DAYS[-1].timestamp())
    assert product["all_reviews"].split("\n") == TEXTS[::-1]
    assert not found.bad
    return product


ARRAY = json.dumps(PLAIN).encode()
SPARK = csv(PLAIN, quote_style="always").replace(b"number", b'\\"number\\"')
CONTENTS = {
    "semicolons": csv(PLAIN, ";"),
    "bars": csv(PLAIN, "|"),
    "quoted TSV": csv(PLAIN, "\t", quote_style="always"),
    "sep= of Excel": b"sep=;\r\n" + csv(PLAIN, ";", line_terminator="\r\n"),
    "blank first lines": b"\n\r\n" + csv(PLAIN),
    "header in capitals": csv(PLAIN).replace(b"product_id", b" Product ID ", 1),
    "carriage returns": csv(PLAIN).replace(b"\n", b"\r"),
    "carriage returns, TSV": csv(PLAIN, "\t").replace(b"\n", b"\r"),
    "byte order mark": b"\xef\xbb\xbf" + csv(PLAIN, ";"),
    "UTF-16": csv(PLAIN).decode().encode("utf-16"),
    "UTF-16 without mark": csv(PLAIN, "\t").decode().encode("utf-16-le"),
    "UTF-32": csv(PLAIN).decode().encode("utf-32"),
    "Windows-1252": csv(PLAIN).decode().encode("cp1252"),
    "Windows-1252 TSV": csv(PLAIN, "\t").decode().encode("cp1252"),
    "Windows-1252 JSON": json_lines(lambda _: {}, [])
    + b"\n".join(json.dumps(row, ensure_ascii=False).encode("cp1252") for row in PLAIN),
    "JSON array on a line": ARRAY,
    "JSON array, a line per object": b"[\n" + ARRAY[1:-1].replace(b"}, {", b"},\n{") + b"\n]",
    "JSON array, indented": json.dumps(PLAIN, indent=2).encode(),
    "concatenated objects": ARRAY[1:-1].replace(b"}, {", b"}{"),
    "indented objects": b"\n".join(json.dumps(row, indent=1).encode() for row in PLAIN),
    "Python literals": b"\n".join(repr(row).encode() for row in PLAIN),
    "gzip": gzip.compress(csv(PLAIN)),
    "bzip2": bz2.compress(csv(PLAIN)),
    "xz": lzma.compress(csv(PLAIN)),
    "zstd": zstd.compress(csv(PLAIN)),
    "zstd in frames": b"".join(map(zstd.compress, csv(PLAIN).splitlines(keepends=True))),
    "Parquet date": parquet(PLAIN, review_date=pl.col("review_date").str.to_date()),
    "Parquet timestamp": parquet(PLAIN, review_date=pl.col("review_date").str.to_datetime()),
    "Parquet timestamp with zone": parquet(
        PLAIN,
        review_date=pl.col("review_date")
        .str.to_datetime(time_zone="UTC")
        .dt.convert_time_zone("Asia/Tokyo"),
    ),
    "Kaggle Fine Food": csv(
        rows(names="ProductId UserId Text Score Time", date="%s", HelpfulnessNumerator=0, Id=1)
    ),
    "Datafiniti": csv(
        rows(
            names="asins reviews.username reviews.text reviews.rating reviews.date",
            date="%Y-%m-%dT00:00:00.000Z",
            id="AVpe",
        )
    ).replace(b"P1", b'"P1,P2"'),
    "amazon_reviews_multi": csv(
        rows(names="product_id reviewer_id review_body stars review_date", language="en")
    ),
    "clothing shop": csv(
        rows(names="Clothing_ID Age Review_Text Rating Date", Title="", Positive_Feedback_Count=0)
    )
    .replace(b"Clothing_ID", b",Clothing ID")
    .replace(b"P1,", b"0,P1,"),
    "Google Play": csv(
        rows(
            names="appId userName content score at",
            date="%Y-%m-%d %H:%M:%S",
            reviewId="",
            thumbsUpCount=0,
        )
    ),
    "Sephora": csv(
        rows(names="product_id author_id review_text rating submission_time", is_recommended="1.0")
    ),
    "Okendo": csv(
        rows(names="productId name body rating dateCreated", date="%Y-%m-%dT00:00:00Z", handle="")
    ),
    "Yelp": b"\n".join(
        json.dumps(row).encode()
        for row in rows(names="business_id user_id text stars date", date="%Y-%m-%d %H:%M:%S")
    ),
    "Goodreads": b"\n".join(
        json.dumps(row).encode()
        for row in rows(
            names="book_id user_id review_text rating date_added",
            date="%a %b %d %H:%M:%S -0000 %Y",
            n_votes=0,
        )
    ),
}


@pytest.mark.parametrize("name", list(CONTENTS))
def test_the_same_reviews_are_read_from_every_layout(lake: Lake, name: str) -> None:
    require_six(group(lake, CONTENTS[name]))


def test_rows_in_windows_1252_are_counted_and_damaged_utf_8_is_not_guessed(lake: Lake) -> None:
    lines = csv(PLAIN).splitlines()
    lines[2] = lines[2].decode().encode("cp1252")
    lines[4] = lines[4].replace(b"works", b"w\xffrks")  # its é is UTF-8
    found = group(lake, b"\n".join(lines))
    assert found.record.dumps[0].recoded == 1
    assert [(row.line, row.reason) for row in found.bad] == [(5, "not UTF-8")]


def test_quotes_escaped_by_backslashes_are_read_with_the_quotes(lake: Lake) -> None:
    found = group(lake, SPARK)
    assert 'Café "number" 5: it works' in found.products["all_reviews"].item()
    assert (found.record.counts.reviews_kept, found.bad) == (6, [])


def test_quotes_of_an_unquoted_tsv_stay(lake: Lake) -> None:
    content = csv(PLAIN, "\t", quote_style="never").replace(b"Caf", b'"Caf').replace(b"5:", b'"5":')
    found = group(lake, content)
    assert str(found.record.dumps[0].format) == "TSV"
    assert '"Café number "5": it works' in found.products["all_reviews"].item()


@pytest.mark.parametrize("separator", [", ", ",\n", "", "\n"])
def test_a_damaged_object_costs_no_other_one(lake: Lake, separator: str) -> None:
    objects = [json.dumps(row) for row in PLAIN]
    objects[3] = objects[3].replace('"rating"', "rating")
    objects[1:1] = ['{"product_id": "", "review_text": "x"}']
    found = group(lake, f"[{separator.join(objects)}]".encode())
    assert {row.reason[:8] for row in found.bad} == {"no produ", "not JSON"}
    assert [row.line for row in found.bad] == [1 + n * separator.count("\n") for n in (1, 4)]
    assert found.record.counts.reviews_kept == 5


def test_a_nan_in_json_is_an_absent_value(lake: Lake) -> None:
    changed = [{**row, "vote": 3 if n == 5 else float("nan")} for n, row in enumerate(PLAIN)]
    changed[0]["note"] = "NaN, Infinity"
    content = b"\n".join(json.dumps(row).encode() for row in changed)
    assert require_six(group(lake, content))["total_helpful_votes"] == 3


def test_a_blank_gives_way_to_another_column_of_the_same_field(lake: Lake) -> None:
    old = [{**row, "reviewText": row["review_text"], "review_text": " "} for row in PLAIN]
    for row in old[:3]:
        row |= {"overall": "", "stars": row["rating"], "rating": None}
    require_six(group(lake, json.dumps(old).encode()))


def test_lists_and_structs_of_parquet_are_read_as_those_of_json(lake: Lake) -> None:
    reviews = reviews_of("B1", 6, votes=2, style="Black")
    table = [amazon_2018(review) | amazon_2014(review) for review in reviews]
    for row in table:
        del row["vote"]
    product = group(lake, parquet(table)).products
    assert product["total_helpful_votes"].item() == 12
    assert product["dominant_style"].item() == "Color: Black"


def test_members_of_a_zip_archive_are_dumps_and_others_are_named(lake: Lake) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/a.csv", csv(PLAIN[:3]))
        archive.writestr("data/b.json.gz", gzip.compress(json.dumps(PLAIN[3:]).encode()))
        archive.writestr("README.txt", "about these files")
        archive.writestr("__MACOSX/._a.csv", b"\0\1")
    found = group(lake, buffer.getvalue())
    require_six(found)
    assert [dump.member for dump in found.record.dumps] == ["data/a.csv", "data/b.json.gz"]
    (skipped,) = found.record.dumps[0].skipped
    assert "README.txt is of unknown format" in skipped


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress, zstd.compress, zip_of, bytes])
def test_containers_are_read_on_s3(s3_lake: Lake, pack: Callable[[bytes], bytes]) -> None:
    s3_lake.put("review_dumps/rating=3/reviews", pack(csv(PLAIN).replace(b"rating", b"other")))
    product = group(s3_lake).products
    assert (product["review_count"].item(), product["avg_rating"].item()) == (6, 3.0)


def test_a_damaged_member_of_a_zip_archive_is_named(lake: Lake) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.json", json_lines(amazon_2018, reviews_of("B1", 2_000)))
    found = group(lake, buffer.getvalue().replace(b"number 5 ", b"number 6 ", 1))
    (bad,) = found.bad
    assert "Bad CRC-32" in bad.reason
    assert 0 < found.record.counts.reviews_read < 2_000


def tar_of(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("a.csv")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tar_of(csv(PLAIN)), "is a tar archive. To fix: unpack it"),
        (gzip.compress(tar_of(csv(PLAIN))), "is a tar archive"),
        (b"7z\xbc\xaf\x27\x1c\0", "is a 7z archive"),
        (b"Rar!\x1a\x07\0", "is a RAR archive"),
        (
            zip_of(b"x", "[Content_Types].xml"),
            "is an Excel or office document. To fix: save it as CSV",
        ),
        (zip_of(b"x", "notes.txt"), "is a zip archive without a dump: .*notes.txt"),
        (b"PK\x03\x04 and no more", "is a damaged zip archive"),
        (gzip.compress(gzip.compress(csv(PLAIN))), "is compressed twice"),
        (gzip.compress(parquet(PLAIN)), "is a Parquet file in gzip"),
        (b"Obj\x01avro", "is an Avro file. To fix: export it"),
        (b"\x80\x04\x95", "is a Python pickle"),
        (zstd.compress(csv(PLAIN))[:9], r"cannot be unpacked \(Compressed file ended"),
    ],
)
def test_a_container_that_is_not_read_is_named_with_the_remedy(
    lake: Lake, content: bytes, message: str
) -> None:
    with pytest.raises(DumpError, match=message):
        group(lake, content)


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress, zstd.compress])
def test_everything_before_the_damage_is_kept_in_every_compression(lake: Lake, pack: Any) -> None:
    content = json_lines(amazon_2018, reviews_of("B1", 2_000))
    whole = pack(content)
    found = group(lake, pack(content) + whole[: len(whole) // 2])
    assert found.record.counts.reviews_read >= 2_000
    assert found.record.dumps[0].damage


OWN = rows(names="SKU Name Comment Grade When", date="%d.%m.%Y")
MAPPING = "product_id=SKU,review_text=comment,rating=Grade,review_date=When,reviewer_id=Name"


@pytest.mark.parametrize("render", [csv, parquet, lambda table: json.dumps(table).encode()])
def test_columns_of_ones_own_are_read_once_they_are_named(lake: Lake, render: Any) -> None:
    with pytest.raises(DumpError, match=r"columns are SKU.*Comment.*--columns product_id="):
        group(lake, render(OWN))
    require_six(group(lake, render(OWN), columns=MAPPING))


def test_a_mapped_column_that_no_dump_has_is_an_error(lake: Lake) -> None:
    with pytest.raises(DumpError, match=r"no dump has a column 'Stars'.* SKU, Name, Comment"):
        group(lake, csv(OWN), columns=f"{MAPPING},rating=Stars")


def test_values_in_names_of_folders_are_columns(lake: Lake) -> None:
    assert lake.directory is not None
    folder = lake.directory / "review_dumps" / "reviews.parquet"
    for n, row in enumerate(PLAIN):
        part = folder / f"product_id=P1/rating={row['rating']}" / f"part-{n}.parquet"
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(
            parquet([{k: v for k, v in row.items() if k not in ("product_id", "rating")}])
        )
    (folder / "_SUCCESS").touch()
    require_six(group(lake))
    require_six(group(lake, str(folder)))


def test_verified_and_recent_reviews_can_be_selected(lake: Lake) -> None:
    table = [{**row, "verified": "Y" if n % 2 else "N"} for n, row in enumerate(PLAIN)]
    found = group(lake, csv(table), verified_only=True, reviews_since="2020-04-15")
    assert found.products["all_reviews"].item().split("\n") == [TEXTS[5], TEXTS[3]]
    counts = found.record.counts
    assert (counts.not_verified, counts.too_old, counts.reviews_kept) == (3, 1, 2)


def test_what_could_be_read_of_each_field_is_recorded(lake: Lake, tmp_path: Path) -> None:
    table = [{**row, "rating": row["rating"] if n else "five"} for n, row in enumerate(PLAIN)]
    content = "\n".join(json.dumps(row) for row in table).encode()
    (dump,) = group(lake, content).record.dumps
    fields = {name: tuple(reading) for name, reading in dump.fields.items()}
    assert fields["rating"] == (6, 5, ("five",))
    assert fields["review_date"] == fields["reviewer_id"] == (6, 6, ())
    assert fields["helpful_votes"] == (0, 0, ())
