"""Commands that show a lake: ``doctor``, ``estimate``, ``explain`` and ``report``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reviewsum_assets.checkpoints.plan import checkpoint_number, current_plan
from reviewsum_assets.cli.output import (
    JsonOption,
    LakeOption,
    ProgressBars,
    chosen_settings,
    out,
    print_differences,
    print_estimate,
    print_json,
    show,
)
from reviewsum_assets.compute.doctor import Finding, diagnose
from reviewsum_assets.errors import ModelError, SettingsError
from reviewsum_assets.lake_state import LakeStatus, lake_status, plan_differences
from reviewsum_assets.settings import Settings
from reviewsum_assets.storage import places
from reviewsum_assets.storage.lake import Lake

if TYPE_CHECKING:
    from reviewsum_assets.checkpoints.explanation import (
        ExplainedChunk,
        ExplainedSentence,
        Explanation,
        ReadReview,
    )


_STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}


def doctor(
    lake: LakeOption = None,
    dump: Annotated[
        list[str] | None, typer.Option(help="Dump that a run would read; may be repeated.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model that a run would use.")] = None,
    compute: Annotated[
        str | None, typer.Option(help="Where jobs would run: local, or sagemaker.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check settings, lake, credentials, devices and model, free of cost."""
    options = {"lake": lake, "dumps": tuple(dump or ()) or None, "model": model, "compute": compute}
    findings: list[Finding] = []
    for found in _findings(**options):
        findings.append(found)
        if not as_json:
            style = _STYLES[found.state]
            out.print(f"[{style}]{found.state:>8}[/]  [bold]{found.subject}[/]: ", end="")
            out.say(found.text)
            if found.remedy:
                out.say(f"{'':>10}to fix: {found.remedy}")
    has_problem = any(found.state == "problem" for found in findings)
    if as_json:
        print_json({"ok": not has_problem, "findings": [one.model_dump() for one in findings]})
    if has_problem:
        raise typer.Exit(1)


def _findings(**options: Any) -> Iterator[Finding]:
    try:
        settings = chosen_settings(**options)
    except SettingsError as error:
        yield Finding(
            subject="settings", state="problem", text=str(error), remedy="correct the settings"
        )
        return
    yield Finding(subject="settings", state="ok", text="all values are valid")
    yield from diagnose(settings)


def estimate(
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the estimated time and cost of the pending checkpoints."""
    settings = chosen_settings(lake=lake)
    opened = Lake.open(settings.lake, create=False)
    plan = current_plan(opened)
    if plan is not None and (differences := plan_differences(opened, plan, settings)):
        print_differences(differences)
    show_estimate(opened, lake_status(opened), settings, as_json)


def show_estimate(lake: Lake, found: LakeStatus | None, settings: Settings, as_json: bool) -> None:
    """Print the estimate of the pending checkpoints of a lake."""
    from reviewsum_assets.compute import compute_for
    from reviewsum_assets.compute.estimate import estimate as estimate_pending

    result = estimate_pending(
        lake,
        None if found is None else found.plan,
        [] if found is None else [state.planned for state in found.incomplete],
        settings,
        compute_for(settings, lake).capacity,
    )
    if result.checkpoints or as_json:
        show(result, as_json, print_estimate)
    else:
        out.say(f"{lake.uri}: {result.basis}")


_FIRST_REVIEWS, _FIRST_CHUNKS = 12, 6
_EXCERPT_CHARS = 160


def explain(
    product: Annotated[str, typer.Argument(help="Id, as in the merged table.")],
    lake: LakeOption = None,
    full: Annotated[
        bool, typer.Option("--full", help="Every review and chunk, and all of their text.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the origin of a product's summary: reviews, chunks, model, settings and job."""
    from reviewsum_assets.checkpoints import explanation

    opened = Lake.open(chosen_settings(lake=lake).lake, create=False)
    found = explanation.explain(opened, product)
    show(found, as_json, lambda found: _print(opened, found, full=full))


def _print(lake: Lake, found: Explanation, *, full: bool) -> None:
    out.entry(found.product_id, f"{found.checkpoint}, finished {found.finished_at}")
    for name in ("liked", "disliked") if found.liked or found.disliked else ("summary",):
        out.entry(name, getattr(found, name) or "no such review")
    out.print()
    _print_evidence(found.sentences)
    out.entry("reviews", _coverage(found))
    if stars := _stars(found.read):
        out.entry("stars", stars)
    for side, same in groupby(found.read, key=lambda review: review.side):
        reviews = list(same)
        if side:
            out.entry(side, f"{len(reviews):,} of these reviews")
        _print_reviews(reviews, full=full)
    out.print()
    out.entry("chunks", _chunk_counts(found))
    if found.chunks is None:
        out.entry("", "the file of their summaries is missing or damaged")
    else:
        for side, chunks in groupby(found.chunks, key=lambda chunk: chunk.side):
            if side:
                out.entry(side, "level by level")
            for _, level in groupby(chunks, key=lambda chunk: chunk.level):
                _print_level(list(level), full=full)
    out.print()
    producer = found.producer
    versions = ", ".join(f"{name} {version}" for name, version in producer.package_versions.items())
    number = checkpoint_number(found.checkpoint)
    for name, value in (
        ("model", _model(lake, producer.model_version)),
        ("settings", _settings(found)),
        ("engine", f"{producer.engine}, {producer.dtype}, {producer.device}; {versions}"),
        ("job", f"{producer.job_name} on {producer.host} ({producer.instance_type})"),
        ("plan", found.plan_id),
        ("manifest", lake.uri_of(places.checkpoint_manifest(number))),
    ):
        out.entry(name, value)


def _print_evidence(sentences: Sequence[ExplainedSentence] | None) -> None:
    if sentences is None:
        out.entry("evidence", "none yet for this summary: use `reviewsum run`")
    for place, one in enumerate(sentences or (), 1):
        out.entry(f"sentence {place}", one.sentence)
        word = {True: "supported", False: "not supported", None: "no claim"}[one.supported]
        figures = f"{one.support:,} of {one.reviews:,} reviews say so, {one.against:,} disagree"
        out.entry(
            "", word if one.supported is None else f"{word}: {figures}, score {one.score:.2f}"
        )
        for quote in one.quotes:
            stars = "" if quote.stars is None else f"{quote.stars:g} stars, "
            out.entry("", f"  {stars}{quote.day or 'no date'}: {quote.quote}")
    out.print()


def _model(lake: Lake, version: str) -> str:
    from reviewsum_assets.job.models.directory import read_ready_model

    try:
        model = read_ready_model(lake, version)
    except ModelError:
        return f"version {version}, which is no longer on the lake"
    return f"{model.source}, {model.parameters / 1e6:,.1f}M parameters, version {version}"


def _settings(found: Explanation) -> str:
    """All settings that the strategy uses."""
    idle = "hierarchical_chars" if found.settings["strategy"] == "join" else "max_chars"
    return ", ".join(f"{name} {value}" for name, value in found.settings.items() if name != idle)


def _coverage(found: Explanation) -> str:
    known = found.reviews
    now = "" if known == found.review_count else f" ({found.review_count:,} by now)"
    if found.reviews_read is None or found.reviews_cut is None:
        return f"{known:,}{now}; how many of them were read is not known"
    return (
        f"{known:,}{now}: {found.reviews_read:,} read, {found.reviews_cut:,} cut, "
        f"{found.reviews_left_out or 0:,} left out"
    )


def _stars(reviews: Sequence[ReadReview]) -> str:
    """Number of reviews read per rating: ``5 x 520, 4 x 100, of those read``."""
    counts = Counter(review.rating for review in reviews if review.rating is not None)
    found = [f"{rating:g} x {counts[rating]:,}" for rating in sorted(counts, reverse=True)]
    return ", ".join([*found, "of those read"]) if found else ""


def _print_reviews(reviews: Sequence[ReadReview], *, full: bool) -> None:
    for place, review in enumerate(reviews if full else reviews[:_FIRST_REVIEWS], 1):
        unit = "star" if review.rating == 1 else "stars"
        stars = "" if review.rating is None else f"{review.rating:g} {unit}  "
        cut = "(cut)  " if review.cut else ""
        out.entry(str(place), f"{stars}{cut}{_shown(review.text, full=full)}")
    _say_more(len(reviews) - _FIRST_REVIEWS, "reviews", full=full)


def _chunk_counts(found: Explanation) -> str:
    tokens = f"{found.tokens_in:,} tokens in, {found.tokens_out:,} out"
    levels = found.chunks_by_level
    if len(levels) == 1:
        return f"{levels[0]:,}, {tokens}"
    by_level = ", ".join(f"{count:,}" for count in levels)
    return f"{sum(levels):,} on {len(levels)} levels ({by_level}), {tokens}"


def _print_level(chunks: Sequence[ExplainedChunk], *, full: bool) -> None:
    what = "words" if chunks[0].level == 1 else f"summaries of level {chunks[0].level - 1}:"
    for place, chunk in enumerate(chunks if full else chunks[:_FIRST_CHUNKS], 1):
        name = f"{chunk.level}.{place}"
        if chunk.carried:
            out.entry(name, f"{what} {chunk.first}, as it is")
            continue
        out.entry(name, f"{what} {chunk.first} to {chunk.last}, {chunk.tokens_in} tokens")
        if full or chunk.level == 1:
            out.entry("reads", _shown(chunk.text, full=full))
        out.entry("says", chunk.summary)
    _say_more(len(chunks) - _FIRST_CHUNKS, "chunks", full=full)


def _shown(text: str, *, full: bool) -> str:
    return text if full or len(text) <= _EXCERPT_CHARS else f"{text[:_EXCERPT_CHARS]} …"


def _say_more(count: int, what: str, *, full: bool) -> None:
    if count > 0 and not full:
        out.entry("…", f"{count:,} more {what}: --full shows all, in full")


def report(
    lake: LakeOption = None,
    products: Annotated[
        int | None,
        typer.Option(help="Products in the page, those with the most reviews.", min=1),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Local file to write in place of the lake's page.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write summaries, facts and evidence as one HTML file to read, search and share."""
    from reviewsum_assets.assets.pipeline import StageProgress
    from reviewsum_assets.report.writer import write_report

    settings = chosen_settings(lake=lake, report_products=products)
    opened = Lake.open(settings.lake, create=False)
    with ProgressBars() as bars:
        written = write_report(
            opened,
            most=settings.report_products,
            output=output,
            on_progress=lambda done, total: bars.update_stage(
                StageProgress("report", done, total, "products")
            ),
        )
    path = opened.uri_of(places.REPORT) if output is None else str(output)
    if as_json:
        print_json({"lake": opened.uri, "report": path, **asdict(written)})
        return
    shown = f"{written.shown:,} of {written.products:,}"
    for name, value in (("report", path), ("products", shown), ("bytes", f"{written.bytes:,}")):
        out.entry(name, value)
    for note in written.notes:
        out.say(note, "yellow")
