"""``summarizer_model``: the model, checked and ready for jobs."""

import dagster as dg

from reviewsum_assets.assets.pipeline import Pipeline
from reviewsum_assets.assets.run_failure import fails_plainly
from reviewsum_assets.job.models.conversion import ensure_converted
from reviewsum_assets.job.models.directory import ready_model
from reviewsum_assets.storage import places


@dg.asset(
    group_name="summaries",
    kinds={"huggingface", "pytorch"},
    owners=["team:reviewsum"],
    description=(
        "The model that writes the summaries (Pegasus, BART or T5), from the lake's "
        "`pegasus_model/`, a directory or the Hugging Face hub. Materializing checks it, converts "
        "it to safe weights and for CTranslate2, which is several times faster, and publishes both "
        "under `models/`, once. Its data version is the hash of weights, tokenizer and "
        "configuration: with another model, every product is summarized again."
    ),
)
@fails_plainly
def summarizer_model(
    context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.MaterializeResult[None]:
    """Make the model ready, once."""
    model, reused = ready_model(pipeline.lake, pipeline.settings)
    conversion: dict[str, str] = {}
    if pipeline.settings.engine != "transformers":
        obstacle = ensure_converted(pipeline.lake, model).obstacle
        if obstacle:
            context.log.warning(f"jobs will use transformers, which is slower: {obstacle}")
        where = pipeline.lake.uri_of(places.converted_model_directory(model.version))
        conversion = {"conversion": obstacle or where}
    if model.is_demo:
        context.log.warning(
            "this is the demo model, trained on generated reviews: put a real one under "
            f"{pipeline.lake.uri_of(places.PEGASUS_MODEL)}, or set model, for real summaries"
        )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(model.version),
        metadata={
            "source": model.source,
            "family": model.family,
            # Text, since Dagster plots numbers, and these are constant.
            "parameters": f"{model.parameters:,}",
            "size": f"{model.bytes / 1e6:,.0f} MB",
            "demo_model": model.is_demo,
            "vocabulary": f"{model.vocabulary:,} tokens",
            "reused": reused,
            "dagster/uri": pipeline.lake.uri_of(places.model_directory(model.version)),
            **conversion,
        },
    )
