"""The project's definitions, whose sensors look every few seconds, so that tests need not wait.

Two looks a minute apart, a run, another look: a new dump takes minutes to become a table, nearly
all of them idle.
"""

from reviewsum_assets.automation.sensors import new_dumps, reconcile_checkpoints
from reviewsum_assets.definitions import defs

__all__ = ["defs"]

for sensor in (new_dumps, reconcile_checkpoints):
    # There is no public way to give a sensor another interval.
    sensor._min_interval = 5
