"""How large the stages' inputs are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Sizes of all stages.

    ``eager_part`` and ``literal_products`` are what the baselines are given, where they could not
    bear the whole: one part in so many of the dump, and so many of the products to chunk.
    """

    dump_reviews: int
    dump_products: int
    eager_part: int
    chunked_products: int
    literal_products: int
    planned_products: int
    product_chars: int
    finished_checkpoints: tuple[int, ...]
    checkpoint_size: int
    repeats: int


# Together about two minutes on two cores, if nothing else keeps them busy.
# 307 checkpoints of 100 products are what the defaults of ``settings`` plan: 30,700 products.
DEFAULT = Scale(
    dump_reviews=150_000,
    dump_products=700,
    eager_part=1,
    chunked_products=2_000,
    literal_products=10,
    planned_products=30_700,
    product_chars=3_500,
    finished_checkpoints=(307,),
    checkpoint_size=100,
    repeats=3,
)
# Amazon Electronics of 2018, and a plan thirty times as large as the default one.
FULL = Scale(
    dump_reviews=6_700_000,
    dump_products=31_100,
    eager_part=10,
    chunked_products=30_700,
    literal_products=100,
    planned_products=1_000_000,
    product_chars=3_500,
    finished_checkpoints=(307, 10_000),
    checkpoint_size=100,
    repeats=3,
)
