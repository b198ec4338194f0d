"""Evaluates summaries of lakes, tables and models beside baselines and people.

A model first summarizes the products that have references, on a lake of its own that is kept, so
that a second call computes nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import polars as pl

from reviewsum_assets.checkpoints.plan import current_plan
from reviewsum_assets.errors import EvaluationError
from reviewsum_assets.evaluation import systems
from reviewsum_assets.evaluation.entailment import EntailmentModel
from reviewsum_assets.evaluation.measures import (
    Figures,
    Interval,
    bootstrap_interval,
    measure,
    sentiment_agreement,
)
from reviewsum_assets.evaluation.opinions import AllReviews, Opinions, opinions_of
from reviewsum_assets.evaluation.report import CriticalReviews, EvaluationResult, SystemResult
from reviewsum_assets.evaluation.systems import Candidate, Texts
from reviewsum_assets.job.parent import run_job, summarize_grouped
from reviewsum_assets.job.progress import JobResult, ProgressReporter
from reviewsum_assets.job.spec import JobSpec
from reviewsum_assets.settings import Settings, load_settings
from reviewsum_assets.storage.lake import Lake

_IDS_PER_MESSAGE = 3
_WITHOUT_INTERVAL = ("words", "compression", "novelty")
# Of one product, by the fields of ``Figures`` and ``Opinions``.
_Values = dict[str, float | None]


def evaluate(
    references: Path,
    settings: Settings,
    on_step: Callable[[str], None],
    *,
    lakes: Sequence[str] = (),
    tables: Sequence[str] = (),
    models: Sequence[str] = (),
    model_lakes: Path = Path("reviewsum_evaluation"),
    entailment_model: Path | None = None,
    compared_with: str = "",
    seed: int = 0,
) -> EvaluationResult:
    """Score the named systems, or the lake of the settings if none is named.

    Args:
        references: see ``read_references``.
        settings: reviews come from its dumps, if any, else from the first lake that has some. The
            other settings are those of models, and of the window of reviews without any plan.
        on_step: receives progress.
        lakes: lakes with a merged table; like tables and models ``NAME=PLACE`` or a place.
        tables: CSV or Parquet files of summaries.
        models: models that first summarize the products, on lakes under ``model_lakes``.
        model_lakes: directory for the lakes of models.
        entailment_model: directory of a model that marks unsupported words.
        compared_with: system that differences refer to. Default: the lead sentences.
        seed: seed of the random review and the resamples.

    Raises:
        EvaluationError: references, summaries and reviews do not fit together.
        ReviewsumError: an input cannot be read, or a model cannot be used.
    """
    entailment = None if entailment_model is None else EntailmentModel.load(entailment_model)
    every_reference = systems.read_references(references)
    if not (lakes or tables or models):
        lakes = (settings.lake,)
    named_lakes, named_tables, named_models = (
        [_named(place) for place in places] for places in (lakes, tables, models)
    )
    _require_distinct([name for name, _ in (*named_lakes, *named_tables, *named_models)])
    opened = {name: Lake.open(uri, create=False) for name, uri in named_lakes}
    review_lakes = list(opened.values())
    if not (opened or settings.dumps):
        review_lakes = [Lake.open(settings.lake, create=False)]
    on_step("reading reviews")
    grouped, source = systems.load_reviews(settings, review_lakes, every_reference)
    for name, model in named_models:
        on_step(f"{name}: summarizing {grouped.height} products with {model}")
        opened[name] = Lake.open(str(model_lakes / name))
        _summarize(opened[name], name, model, grouped, source, settings, on_step)
    summaries = [
        *(systems.system_of_lake(name, lake, every_reference) for name, lake in opened.items()),
        *(
            systems.system_of_table(name, Path(path), every_reference)
            for name, path in named_tables
        ),
    ]
    on_step("scoring")
    plans = filter(None, map(current_plan, opened.values() or review_lakes))
    windows = [plan.recipes[plan.recipe].settings for plan in plans]
    widest = max(windows, key=lambda one: one.window_chars, default=settings.summary_settings())
    reviews = systems.reviews_in_window(grouped, widest)

    return _compared(
        *(references, every_reference, source, grouped, reviews, summaries),
        compared_with,
        seed,
        entailment,
    )


def _compared(
    path: Path,
    every_reference: Texts,
    source: str,
    grouped: pl.DataFrame,
    reviews: Texts,
    summaries: Sequence[Candidate],
    compared_with: str,
    seed: int,
    entailment: EntailmentModel | None,
) -> EvaluationResult:
    """Score summaries, baselines and people on the products that all of them have."""
    holders = {"reviews": {product for product, texts in reviews.items() if texts}}
    holders |= {system.name: set(system.texts) for system in summaries}
    common = _in_all(path, every_reference, holders)
    reviews = {product: reviews[product] for product in common}
    comparisons, notes = _comparisons(common, reviews, systems.highlights(grouped), seed)
    candidates = [*summaries, *comparisons]
    names = [candidate.name for candidate in candidates]
    _require_distinct(names)
    compared_with = compared_with or (systems.LEAD if systems.LEAD in names else names[0])
    if compared_with not in names:
        raise EvaluationError(
            f"cannot compare with {compared_with!r}, which is no system. To fix: name one of "
            f"{', '.join(names)}"
        )
    stars = dict(grouped.select("product_id", "avg_rating").iter_rows())
    every_review = systems.all_reviews(grouped)
    figures = {
        one.name: _figures(one, common, reviews, every_review, entailment) for one in candidates
    }
    left_out = {name: len(every_reference.keys() - held) for name, held in holders.items()}
    return EvaluationResult(
        references=str(path),
        reviews=source,
        products=len(common),
        references_a_product=statistics.fmean(map(len, common.values())),
        left_out={name: count for name, count in left_out.items() if count},
        compared_with=compared_with,
        seed=seed,
        notes=tuple(notes),
        critical_reviews=_critical_reviews([every_review[key] for key in common], seed),
        systems=tuple(
            SystemResult(
                name=one.name,
                kind=one.kind,
                source=one.source,
                sentiment_agreement=_agreement(one, {key: stars[key] for key in common}),
                **_means(figures[one.name], figures[compared_with], seed),
            )
            for one in candidates
        ),
    )


def _summarize(
    lake: Lake,
    name: str,
    model: str,
    grouped: pl.DataFrame,
    source: str,
    settings: Settings,
    on_step: Callable[[str], None],
) -> None:
    """Summarize the reviews on a lake, where finished checkpoints are reused."""
    own = load_settings(**{**settings.model_dump(), "lake": lake.uri, "model": model, "dumps": ()})

    def run(spec: JobSpec) -> JobResult:
        reporter = ProgressReporter(lake, spec, say=lambda step: on_step(f"{name}: {step}"))
        return run_job(lake, spec, reporter, lambda: False, "local")

    result = summarize_grouped(lake, grouped.lazy(), source, own, run)
    if result.failed:
        reasons = "; ".join(dict.fromkeys(result.failed.values()))
        raise EvaluationError(f"model {model} could not summarize the reviews: {reasons}")


def _in_all(path: Path, references: Texts, holders: Mapping[str, set[str]]) -> Texts:
    """Return the references of the products that the reviews and all systems have."""
    common = set(references).intersection(*holders.values())
    if not common:
        counts = ", ".join(f"{name} {len(held)}" for name, held in holders.items())
        first = ", ".join(list(references)[:_IDS_PER_MESSAGE])
        raise EvaluationError(
            f"no product is in all inputs. Of the {len(references)} products of {path} (first: "
            f"{first}), the others have: {counts}"
        )
    return {product: texts for product, texts in references.items() if product in common}


def _comparisons(
    references: Texts, reviews: Texts, highlights: Candidate, seed: int
) -> tuple[list[Candidate], list[str]]:
    """Return the possible baselines and bounds, and why others are missing."""
    found: list[Candidate] = []
    notes: list[str] = []
    if any(len(texts) > 1 for texts in reviews.values()):
        found += [highlights, *systems.baselines(reviews, references, seed)]
    else:
        notes.append("no baselines: reviews are not separated; name raw dumps with --dump")
    if all(len(texts) > 1 for texts in references.values()):
        found.append(Candidate(systems.HUMAN, "bound", references, leaves_itself_out=True))
    else:
        notes.append("people are not scored: a product has only one reference")
    return found, notes


def _figures(
    candidate: Candidate,
    references: Texts,
    reviews: Texts,
    every_review: Mapping[str, AllReviews],
    entailment: EntailmentModel | None,
) -> list[_Values]:
    """Return the figures of each product by name, as means over the candidate's texts."""
    figures = []
    for product, expected in references.items():
        found = []
        for place, text in enumerate(candidate.texts[product]):
            others = expected[:place] + expected[place + 1 :]
            compared = others if candidate.leaves_itself_out else expected
            opinions = opinions_of(text, every_review[product], entailment)
            found.append((*measure(text, compared, reviews[product]), *opinions))
        columns = zip((*Figures._fields, *Opinions._fields), zip(*found, strict=True), strict=True)
        figures.append({name: _mean_of_known(values) for name, values in columns})
    return figures


def _mean_of_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _means(
    figures: Sequence[_Values], base: Sequence[_Values], seed: int
) -> dict[str, Interval | float | None]:
    """Return the means over products by field of ``SystemResult``, most of them with intervals."""
    values = {name: [one[name] for one in figures] for name in figures[0]}
    pairs = zip(values["rouge_l"], (one["rouge_l"] for one in base), strict=True)
    values["difference"] = [
        one - other for one, other in pairs if one is not None and other is not None
    ]
    return {
        name: _mean_of_known(found) if name in _WITHOUT_INTERVAL else _interval(found, seed)
        for name, found in values.items()
    }


def _interval(values: Sequence[float | None], seed: int) -> Interval | None:
    """Return the interval of the mean over the products where the value is known."""
    known = [value for value in values if value is not None]
    return bootstrap_interval(known, seed) if known else None


def _critical_reviews(reviews: Sequence[AllReviews], seed: int) -> CriticalReviews | None:
    """Return the mean shares of the products with stars, or None without any."""
    rated = [one for one in reviews if one.critical_share is not None]
    share = _interval([one.critical_share for one in rated], seed)
    sentences = _interval([one.critical_sentences for one in rated], seed)
    if share is None or sentences is None:
        return None
    return CriticalReviews(products=len(rated), share=share, sentences=sentences)


def _agreement(candidate: Candidate, stars: Mapping[str, float | None]) -> float | None:
    """Return the sentiment's agreement; for people, the mean over first texts, second texts, ..."""
    by_writer = zip(*(candidate.texts[product] for product in stars), strict=False)
    found = [sentiment_agreement(texts, list(stars.values())) for texts in by_writer]
    known = [agreement for agreement in found if agreement is not None]
    return statistics.fmean(known) if known else None


def _named(option: str) -> tuple[str, str]:
    """Split ``NAME=PLACE``; the default name is the last part of the place.

    A name has no slash: a path or URI may have a folder such as ``env=prod``.
    """
    name, mark, place = option.partition("=")
    return (name, place) if mark and "/" not in name else (PurePosixPath(option).stem, option)


def _require_distinct(names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise EvaluationError(
            f"two systems are called {', '.join(repeated)}. To fix: name them with NAME=PLACE"
        )
