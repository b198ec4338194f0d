"""Summarizes the products that there are references for, on a lake of their own that is kept.

So a model, an engine or other settings are tried on a few products, and called again nothing is
computed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from reviewsum_assets.checkpoints.plan import current_plan
from reviewsum_assets.errors import EvaluationError
from reviewsum_assets.evaluation.measures import Bootstrap, Rouge, Sentiment
from reviewsum_assets.evaluation.scoring import EvaluationResult, Scorer
from reviewsum_assets.evaluation.systems import (
    LEAD,
    Candidate,
    ProductReviews,
    References,
    ReviewTable,
    baselines,
    people,
    read_references,
    reviews_of_dumps,
    reviews_of_lakes,
    system_of_lake,
    system_of_table,
)
from reviewsum_assets.job.processing import run_job, summarize_grouped
from reviewsum_assets.job.progress import JobResult, ProgressReporter
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.settings import Settings, SummarySettings, load_settings
from reviewsum_assets.storage.lake import Lake


def summarized_lake(
    directory: Path,
    model: str,
    reviews: ReviewTable,
    settings: Settings,
    on_step: Callable[[str], None],
) -> Lake:
    """A lake whose merged table holds summaries of these reviews, by this model.

    Args:
        directory: of the lake, made if need be.
        model: as the setting of that name.
        reviews: of the products to summarize.
        settings: all others that count.
        on_step: told how far it is.

    Raises:
        EvaluationError: some of it could not be summarized; says why.
        ReviewsumError: the model cannot be used.
    """
    lake = Lake.open(str(directory))
    own = load_settings(**{**settings.model_dump(), "lake": lake.uri, "model": model, "dumps": ()})

    def run(spec: JobSpec) -> JobResult:
        reporter = ProgressReporter(lake, spec, say=on_step)
        return run_job(lake, spec, reporter, lambda: False, "local")

    result = summarize_grouped(lake, reviews.grouped.lazy(), reviews.source, own, run)
    if result.failed:
        reasons = "; ".join(dict.fromkeys(result.failed.values()))
        raise EvaluationError(f"model {model} could not summarize the reviews: {reasons}")
    return lake


_IDS_IN_A_MESSAGE = 3


@dataclass(frozen=True)
class EvaluationOptions:
    """What to evaluate; lakes, tables and models as ``NAME=PLACE``, or the place alone.

    Args:
        references: see ``read_references``.
        lakes: whose merged tables are judged.
        tables: files that are.
        models: that summarize the references' products first, each on a lake of its own.
        model_lakes: where these lakes are made and kept.
        compared_with: name of the system that differences are taken from; empty: the lead.
        seed: of the random review and of the resamples.
    """

    references: Path
    lakes: Sequence[str] = ()
    tables: Sequence[str] = ()
    models: Sequence[str] = ()
    model_lakes: Path = Path("reviewsum_evaluation")
    compared_with: str = ""
    seed: int = 0


def evaluate(
    options: EvaluationOptions, settings: Settings, on_step: Callable[[str], None]
) -> EvaluationResult:
    """Score what is named, or the lake of the settings, beside baselines.

    Args:
        options: what to evaluate.
        settings: reviews are those of its dumps, if it names any, else of the first lake that has
            some. Models summarize with all others, which also say how much of the reviews is read
            where no lake has a plan.
        on_step: told what is being done.

    Raises:
        EvaluationError: references, summaries and reviews do not fit together.
        ReviewsumError: one of them cannot be read, or a model cannot be used.
    """
    references = read_references(options.references)
    is_any_named = options.lakes or options.tables or options.models
    lakes = [_named(place) for place in (options.lakes if is_any_named else (settings.lake,))]
    tables = [_named(place) for place in options.tables]
    models = [_named(place) for place in options.models]
    _require_different([name for name, _ in (*lakes, *tables, *models)])
    opened = {name: Lake.open(uri, create=False) for name, uri in lakes}
    on_step("reading reviews")
    table = _review_table(settings, list(opened.values()), references)
    for name, model in models:
        on_step(f"{name}: summarizing {table.grouped.height} products with {model}")
        opened[name] = summarized_lake(
            options.model_lakes / name, model, table, settings, partial(_say_of, name, on_step)
        )
    systems = [
        *(system_of_lake(name, lake, references) for name, lake in opened.items()),
        *(system_of_table(name, Path(path), references) for name, path in tables),
    ]
    on_step("scoring")
    read = _widest_window(settings, list(opened.values()))
    return _scored(options, references, table, table.by_product(read), systems)


def _widest_window(settings: Settings, lakes: Sequence[Lake]) -> SummarySettings:
    """The settings of the plan that reads most of a product's reviews."""
    read = [] if lakes or settings.dumps else [Lake.open(settings.lake, create=False)]
    plans = filter(None, map(current_plan, [*lakes, *read]))
    planned = [plan.recipes[plan.recipe].settings for plan in plans]
    return max(planned, key=lambda one: one.window_chars, default=settings.summary_settings())


def _say_of(name: str, on_step: Callable[[str], None], step: str) -> None:
    on_step(f"{name}: {step}")


def _scored(
    options: EvaluationOptions,
    every_reference: References,
    table: ReviewTable,
    reviews: Mapping[str, ProductReviews],
    systems: Sequence[Candidate],
) -> EvaluationResult:
    holders = {"reviews": {product for product, found in reviews.items() if found.reviews}}
    holders |= {system.name: set(system.texts) for system in systems}
    references = _in_all(options.references, every_reference, holders)
    rouge = Rouge()
    beside, notes = _beside(references, reviews, rouge, options.seed)
    candidates = [*systems, *beside]
    names = [candidate.name for candidate in candidates]
    _require_different(names)
    compared_with = options.compared_with or (LEAD if LEAD in names else names[0])
    if compared_with not in names:
        raise EvaluationError(
            f"there is no system {compared_with!r} to compare with: there are {', '.join(names)}"
        )
    sentiment = Sentiment() if Sentiment.is_installed() else None
    if sentiment is None:
        notes.append("sentiment is not judged: pip install 'reviewsum_assets[evaluation]'")
    bootstrap = Bootstrap(len(references), options.seed)
    scorer = Scorer(references, reviews, rouge, bootstrap, sentiment)
    left_out = {name: len(every_reference.keys() - held) for name, held in holders.items()}
    return EvaluationResult(
        references=str(options.references),
        reviews=table.source,
        products=len(references),
        references_a_product=statistics.fmean(map(len, references.values())),
        left_out={name: count for name, count in left_out.items() if count},
        compared_with=compared_with,
        seed=options.seed,
        notes=tuple(notes),
        systems=scorer.results(candidates, compared_with),
    )


def _beside(
    references: References, reviews: Mapping[str, ProductReviews], rouge: Rouge, seed: int
) -> tuple[list[Candidate], list[str]]:
    """The baselines and bounds that there can be, and why there are no others."""
    found: list[Candidate] = []
    notes: list[str] = []
    given = {product: reviews[product].reviews for product in references}
    if any(len(some) > 1 for some in given.values()):
        found += baselines(given, references, rouge, seed)
    else:
        notes.append(
            "no baselines: these reviews came grouped, and none can be told from the next; name "
            "the raw ones with --dump"
        )
    if all(len(texts) > 1 for texts in references.values()):
        found.append(people(references))
    else:
        notes.append("people are not scored: a product has one reference only")
    return found, notes


def _in_all(
    path: Path, references: References, holders: Mapping[str, set[str]]
) -> dict[str, tuple[str, ...]]:
    """The references of the products that everybody has."""
    found = {
        product: texts
        for product, texts in references.items()
        if all(product in held for held in holders.values())
    }
    if not found:
        counts = ", ".join(f"{name} {len(held)}" for name, held in holders.items())
        first = ", ".join(list(references)[:_IDS_IN_A_MESSAGE])
        raise EvaluationError(
            f"no product is in all of them: of the {len(references)} products of {path} (the "
            f"first: {first}), there are in {counts}"
        )
    return found


def _named(option: str) -> tuple[str, str]:
    """``NAME=PLACE`` apart; without a name, the last part of the place is it.

    A name has no slash: a path or URI may have a folder such as ``env=prod``.
    """
    name, mark, place = option.partition("=")
    return (name, place) if mark and "/" not in name else (PurePosixPath(option).stem, option)


def _require_different(names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise EvaluationError(
            f"two systems are called {', '.join(repeated)}: use NAME=PLACE to tell them apart"
        )


def _review_table(settings: Settings, lakes: list[Lake], references: References) -> ReviewTable:
    if settings.dumps:
        return reviews_of_dumps(settings, references)
    return reviews_of_lakes(lakes or [Lake.open(settings.lake, create=False)], references)
