"""The baseline of grouping: a whole dump in memory as Python objects, as the replaced script did.

Same products, same order, same text as ``reviews.grouping``, from plain dictionaries and lists.
"""

from __future__ import annotations

import csv
import html
import json
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any

from reviewsum_assets.settings import load_settings

_SECONDS_A_DAY = 86_400
_GROUPED_COLUMNS = ("product_id", "all_reviews", "review_count")


def _class_of(*categories: str) -> str:
    """Every character of some Unicode categories, for a character class."""
    characters = map(chr, range(sys.maxunicode + 1))
    found = (c for c in characters if unicodedata.category(c) in categories)
    return "".join(re.escape(character) for character in found)


# The rules of ``reviews.cleaning`` in the words of Python's ``re``, which has no ``\p{...}``.
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_URL = re.compile(r"\b(?:https?://|www\.)[^\s<>\"]+", re.IGNORECASE)
_CONTROL = re.compile(f"[{_class_of('Cc', 'Zl', 'Zp')}]+")
_INVISIBLE = re.compile(f"(?![\u200c\u200d])[{_class_of('Cf')}]")


def group_eagerly(dump: Path, target: Path) -> int:
    """Group JSON lines of Amazon Reviews 2018 into a CSV; returns how many products it holds.

    Args:
        dump: the reviews, none of them broken.
        target: written: product_id, all_reviews, review_count; products with most reviews first.
    """
    settings = load_settings()
    with dump.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    products: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        row["reviewText"] = cleaned_text(row["reviewText"])
        if len(row["reviewText"]) > settings.min_review_chars:
            products.setdefault(row["asin"], []).append(row)
    grouped = [(product_id, _texts_in_order(reviews)) for product_id, reviews in products.items()]
    enough = [(name, texts) for name, texts in grouped if len(texts) >= settings.min_reviews]
    enough.sort(key=lambda product: (-len(product[1]), product[0]))
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_GROUPED_COLUMNS)
        writer.writerows((name, "\n".join(texts), len(texts)) for name, texts in enough)
    return len(enough)


def cleaned_text(text: str) -> str:
    """One text, cleaned by the rules of ``reviews.cleaning``."""
    if "&" in text:
        text = html.unescape(html.unescape(text))
    for pattern in (_COMMENT, _TAG, _URL, _CONTROL):
        text = pattern.sub(" ", text)
    return " ".join(_INVISIBLE.sub("", text).split())


def _texts_in_order(reviews: list[dict[str, Any]]) -> list[str]:
    """Each review once, by class of helpfulness, then most recent: as ``reviews.staging`` does."""
    ordered = sorted(
        (
            (
                max(1, int(row.get("vote", "0").replace(",", ""))).bit_length(),
                row["unixReviewTime"] // _SECONDS_A_DAY,
                row["reviewerID"],
                row["reviewText"],
            )
            for row in reviews
        ),
        reverse=True,
    )
    return [text for _, _, text in dict.fromkeys(key[1:] for key in ordered)]
