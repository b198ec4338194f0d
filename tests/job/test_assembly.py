"""Jobs with the demo model whose products have sides, from dumps to the merged table."""

from __future__ import annotations

from pathlib import Path

import pytest

from reviewsum_assets.checkpoints.explanation import explain
from reviewsum_assets.checkpoints.manifest import decode_rows, read_manifests
from reviewsum_assets.checkpoints.merge import merge_checkpoints, merged_slices
from reviewsum_assets.checkpoints.planning import make_plan
from reviewsum_assets.compute import compute_for
from reviewsum_assets.compute.estimate import estimate
from reviewsum_assets.demo import DEMO_MODEL
from reviewsum_assets.job.models.conversion import ensure_converted
from reviewsum_assets.job.models.directory import ready_model
from reviewsum_assets.job.spec import JobSpec, job_spec
from reviewsum_assets.lake_state import lake_status
from reviewsum_assets.reviews.grouped import scan_grouped
from reviewsum_assets.reviews.grouping import group_reviews
from reviewsum_assets.settings import MergeSettings, load_settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake
from tests.support.dumps import FORMATS, Review, write
from tests.support.jobs import run

PRAISE = "The battery lasts for days, the setup took a minute and support answered at once."
COMPLAINT = "The cable broke after a week, the app crashes and the price is far too high."
STARS: dict[str, list[int]] = {
    "both": [5, 4, 4, 3, 2, 1, 1] * 3,
    "few": [5, 5, 4, 5, 1],
    "liked": [5, 4, 5, 4, 5],
    "disliked": [1, 2, 3, 2, 1],
}


def reviews() -> list[Review]:
    return [
        Review(
            product,
            f"R{n}",
            f"Number {n} of {product}: {PRAISE if stars >= 4 else COMPLAINT}",
            rating=stars,
            day=17_000 + n,
        )
        for product, every in STARS.items()
        for n, stars in enumerate(every)
    ]


def planned(lake: Lake, folder: Path) -> JobSpec:
    dump = write(folder / "dump", FORMATS["2018"](reviews()))
    settings = load_settings(
        model=str(DEMO_MODEL), dumps=(dump,), device="cpu", strategy="two_sided",
        checkpoint_size=2, chunk_tokens=80, max_length=60,
    )  # fmt: skip
    ready, _ = ready_model(lake, settings)
    ensure_converted(lake, ready)
    grouped, _ = group_reviews(lake, settings)
    table = scan_grouped(lake, grouped)
    plan = make_plan(lake, table, grouped.version, ready.version, settings).plan
    found = estimate(lake, plan, plan.checkpoints, settings, compute_for(settings, lake).capacity)
    assert found.basis.endswith("chunks and tokens counted")
    engine = settings.engine_settings()
    spec = job_spec(plan, plan.checkpoints, lake=lake.uri, engine=engine)
    return spec.model_copy(update={"chunks_per_product": found.chunks / found.products})


@pytest.fixture(scope="module")
def summarized(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, JobSpec]:
    folder = tmp_path_factory.mktemp("two_sided")
    lake = Lake.open(str(folder / "lake"))
    spec = planned(lake, folder)
    code, log = run(spec, folder)
    assert code == 0, log
    return lake, spec


def test_every_product_has_the_sides_of_its_reviews(summarized: tuple[Lake, JobSpec]) -> None:
    lake, _ = summarized
    status = lake_status(lake)
    assert status is not None
    merge_checkpoints(lake, status.plan, MergeSettings(repeated_sentences="keep"))
    (table,) = merged_slices(lake, 100)
    rows = {row["product_id"]: row for row in table.iter_rows(named=True)}
    assert set(rows) == set(STARS)
    for product, row in rows.items():
        found = explain(lake, product)
        assert (found.liked, found.disliked) == (row["liked"], row["disliked"])
        assert (found.reviews_read, found.reviews_left_out) == (len(STARS[product]), 0)
        for side, text in (("liked", PRAISE), ("disliked", COMPLAINT)):
            stars = sorted(s for s in STARS[product] if (s >= 4) == (side == "liked"))
            read = [review for review in found.read if review.side == side]
            assert sorted(review.rating or 0 for review in read) == stars
            assert all(review.text.endswith(text) for review in read)
            chunks = [chunk for chunk in found.chunks or () if chunk.side == side]
            assert bool(row[side]) == bool(stars) == bool(chunks)
            first = [chunk.text for chunk in chunks if chunk.level == 1]
            assert " ".join(first) == " ".join(review.text for review in read)
            for above in (chunk for chunk in chunks if chunk.level > 1):
                below = [chunk.summary for chunk in chunks if chunk.level == above.level - 1]
                assert above.text == " ".join(below[above.first - 1 : above.last])
            assert not chunks or chunks[-1].summary == row[side]
    assert len(explain(lake, "both").chunks_by_level) > 1
    assert rows["liked"]["abstracted_summary"] == f"Liked: {rows['liked']['liked']}"


def test_the_estimate_is_close_to_the_chunks_that_were_made(
    summarized: tuple[Lake, JobSpec],
) -> None:
    lake, spec = summarized
    assert spec.chunks_per_product is not None
    made = sum(manifest.totals.chunks for manifest in read_manifests(lake, [1, 2]))
    assert made > 2 * len(STARS)
    assert spec.chunks_per_product * len(STARS) == pytest.approx(made, rel=0.2)


def test_a_checkpoint_that_is_lost_is_made_again_with_the_same_bytes(
    summarized: tuple[Lake, JobSpec], tmp_path: Path
) -> None:
    lake, spec = summarized
    before = [lake.get(places.checkpoint_csv(number)) for number in (1, 2)]
    chunks = sorted(item.key for item in lake.list(places.CHECKPOINT_CHUNKS))
    lake.delete(places.checkpoint_manifest(2))
    lake.delete(places.checkpoint_csv(2))
    code, log = run(spec, tmp_path)
    assert code == 0, log
    assert [lake.get(places.checkpoint_csv(number)) for number in (1, 2)] == before
    # Named by their checksums.
    assert sorted(item.key for item in lake.list(places.CHECKPOINT_CHUNKS)) == chunks
    assert all(len(decode_rows(content or b"")) == 2 for content in before)
