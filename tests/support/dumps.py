"""Renders one list of reviews in every dump format, as the formats are published."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

DAY = 86_400


@dataclass(frozen=True)
class Review:
    """One review; ``day`` counts from 1970."""

    product: str = "B000000001"
    reviewer: str = "A1"
    text: str = "A good product that I would buy again."
    title: str = "Good"
    rating: int = 5
    votes: int = 0
    day: int = 17_000
    second: int = 0  # of the day; formats that hold dates only lose it
    style: str | None = None


def reviews_of(product: str, count: int = 5, **fields: object) -> list[Review]:
    """Distinct reviews of one product."""
    return [
        Review(
            product=product,
            reviewer=f"A{number}",
            text=f"Review number {number} of the product {product}, long enough.",
            **fields,  # type: ignore[arg-type]  # fields of Review, by name
        )
        for number in range(count)
    ]


def amazon_2014(review: Review) -> dict[str, object]:
    """A row of the Amazon Reviews set of 2014."""
    return {
        "reviewerID": review.reviewer,
        "asin": review.product,
        "helpful": [review.votes, review.votes + 1],
        "reviewText": review.text,
        "overall": float(review.rating),
        "summary": review.title,
        "unixReviewTime": review.day * DAY + review.second,
        "reviewTime": _date(review).strftime("%m %d, %Y"),
    }


def amazon_2018(review: Review) -> dict[str, object]:
    """A row of the Amazon Reviews set of 2018."""
    row: dict[str, object] = {
        "overall": float(review.rating),
        "verified": True,
        "reviewTime": _date(review).strftime("%m %d, %Y"),
        "reviewerID": review.reviewer,
        "asin": review.product,
        "reviewerName": "Somebody",
        "reviewText": review.text,
        "summary": review.title,
        "unixReviewTime": review.day * DAY + review.second,
    }
    if review.votes:
        row["vote"] = f"{review.votes:,}"
    if review.style:
        row["style"] = {"Color:": f" {review.style}"}
    return row


def amazon_2023(review: Review) -> dict[str, object]:
    """A row of the Amazon Reviews set of 2023; the variant has an id of its own."""
    return {
        "rating": float(review.rating),
        "title": review.title,
        "text": review.text,
        "images": [],
        "asin": f"{review.product}-V",
        "parent_asin": review.product,
        "user_id": review.reviewer,
        "timestamp": (review.day * DAY + review.second) * 1000,
        "helpful_vote": review.votes,
        "verified_purchase": True,
    }


def aws(review: Review) -> dict[str, object]:
    """A row of the AWS review set."""
    return {
        "marketplace": "US",
        "customer_id": review.reviewer,
        "review_id": f"R{review.reviewer}",
        "product_id": review.product,
        "product_parent": "12345",
        "product_title": "A product",
        "product_category": "Electronics",
        "star_rating": review.rating,
        "helpful_votes": review.votes,
        "total_votes": review.votes,
        "vine": "N",
        "verified_purchase": "Y",
        "review_headline": review.title,
        "review_body": review.text,
        "review_date": _date(review).strftime("%Y-%m-%d"),
    }


def json_lines(row: Callable[[Review], dict[str, object]], reviews: Sequence[Review]) -> bytes:
    """JSON lines."""
    return b"".join(json.dumps(row(review)).encode() + b"\n" for review in reviews)


def tsv(reviews: Sequence[Review]) -> bytes:
    """The AWS set's TSV: no quoting."""
    rows = [aws(review) for review in reviews]
    lines = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    return "".join("\t".join(line) + "\n" for line in lines).encode()


def cleaned_csv(reviews: Sequence[Review]) -> bytes:
    """A CSV of reviews, with quoting."""
    text = io.StringIO()
    rows = [{**amazon_2018(review), "style": "", "vote": review.votes} for review in reviews]
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet(reviews: Sequence[Review]) -> bytes:
    """The AWS set's Parquet, with real dates."""
    frame = pl.DataFrame([aws(review) for review in reviews]).with_columns(
        pl.col("review_date").str.to_date()
    )
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


FORMATS: dict[str, Callable[[Sequence[Review]], bytes]] = {
    "2014": lambda reviews: json_lines(amazon_2014, reviews),
    "2018": lambda reviews: json_lines(amazon_2018, reviews),
    "2023": lambda reviews: json_lines(amazon_2023, reviews),
    "TSV": tsv,
    "CSV": cleaned_csv,
    "Parquet": parquet,
}


def write(path: Path, content: bytes, *, zipped: bool = False) -> str:
    """Write a dump; returns its path as settings take it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if zipped else content)
    return str(path)


def _date(review: Review) -> datetime:
    return datetime.fromtimestamp(review.day * DAY, tz=UTC)
