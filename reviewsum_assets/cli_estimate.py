"""``reviewsum estimate``: the bill before it is paid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from reviewsum_assets.checkpoints.plan import current_plan, require_plan
from reviewsum_assets.checkpoints.status import LakeStatus, lake_status
from reviewsum_assets.cli_options import JsonOption, LakeOption, chosen_settings
from reviewsum_assets.cli_output import out, print_differences, print_estimate, print_json
from reviewsum_assets.lake import Lake
from reviewsum_assets.plan_differences import plan_differences
from reviewsum_assets.settings import Settings

if TYPE_CHECKING:
    from reviewsum_assets.compute.estimate import Estimate
    from reviewsum_assets.compute.strategy_costs import StrategyCosts


def estimate(
    lake: LakeOption = None,
    strategies: Annotated[
        bool,
        typer.Option(
            "--strategies", help="Compare instead what all products would take with each strategy."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what the pending checkpoints will take, in time and money, before it is spent."""
    settings = chosen_settings(lake=lake)
    opened = Lake.open(settings.lake, create=False)
    plan = current_plan(opened)
    if plan is not None and (differences := plan_differences(opened, plan, settings)):
        print_differences(differences)
    if strategies:
        # Polars and the tokenizer take seconds to import, which other commands need not pay.
        from reviewsum_assets.compute import compute_for
        from reviewsum_assets.compute.strategy_costs import compare_strategies

        capacity = compute_for(settings, opened).capacity
        costs = compare_strategies(opened, require_plan(opened), settings, capacity)
        if as_json:
            print_json(costs)
        else:
            _print_strategies(costs)
        return
    show_estimate(opened, lake_status(opened), settings, as_json)


def show_estimate(lake: Lake, found: LakeStatus | None, settings: Settings, as_json: bool) -> None:
    """Print what the pending checkpoints of a lake will take."""
    from reviewsum_assets.compute import compute_for
    from reviewsum_assets.compute.estimate import estimate as estimate_pending

    result = estimate_pending(
        lake,
        None if found is None else found.plan,
        [] if found is None else [state.planned for state in found.incomplete],
        settings,
        compute_for(settings, lake).capacity,
    )
    if as_json:
        print_json(result)
    elif not result.checkpoints:
        out.print(f"{lake.uri}: {result.basis}", soft_wrap=True)
    else:
        print_estimate(result)


def _print_strategies(costs: StrategyCosts) -> None:
    """Print what the strategies take as a table, one a row."""
    names = ("chunks", "tokens in", "tokens out", "worker min", "GPU min", "wall-clock min", "USD")
    table = Table("strategy", *(Column(name, justify="right") for name in names), box=None)
    for strategy in type(costs).model_fields:
        found: Estimate = getattr(costs, strategy)
        counts = (found.chunks, found.tokens_in, found.tokens_out)
        minutes = (
            found.worker_seconds.expected / 60,
            found.gpu_hours.expected * 60,
            found.hours.expected * 60,
        )
        table.add_row(
            strategy,
            *(f"{count:,}" for count in counts),
            *(f"{value:,.2f}" for value in (*minutes, found.usd.expected)),
        )
    out.print(table)
    any_of_them = costs.join
    out.print(
        f"all {any_of_them.products:,} selected products, on {any_of_them.instances} x "
        f"{any_of_them.instance_type}, {any_of_them.workers} workers"
    )
    out.print(f"basis: {any_of_them.basis}", highlight=False)
