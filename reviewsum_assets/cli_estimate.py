"""``reviewsum estimate``: the bill before it is paid."""

from __future__ import annotations

from reviewsum_assets.checkpoints.plan import current_plan
from reviewsum_assets.checkpoints.status import LakeStatus, lake_status
from reviewsum_assets.cli_options import JsonOption, LakeOption, chosen_settings
from reviewsum_assets.cli_output import out, print_differences, print_estimate, print_json
from reviewsum_assets.lake import Lake
from reviewsum_assets.plan_differences import plan_differences
from reviewsum_assets.settings import Settings


def estimate(
    lake: LakeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the pending checkpoints will take, in time and money, before it is spent."""
    settings = chosen_settings(lake=lake)
    opened = Lake.open(settings.lake, create=False)
    plan = current_plan(opened)
    if plan is not None and (differences := plan_differences(opened, plan, settings)):
        print_differences(differences)
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
