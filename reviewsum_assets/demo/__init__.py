"""Files of the demonstration, which needs no download: sample reviews and a small Pegasus.

``sample_reviews.jsonl.gz`` holds reviews of 330 made-up products in the layout of Amazon Reviews
2018, with the defects of real dumps. ``model/`` is a Pegasus of three million parameters in the
layout of the model hub. ``tests/demo_maker`` contains the code that made both.
"""

from __future__ import annotations

from pathlib import Path

DEMO_MODEL = Path(__file__).with_name("model")
SAMPLE_DUMP_NAME = "sample_reviews.jsonl.gz"
SAMPLE_DUMP = Path(__file__).with_name(SAMPLE_DUMP_NAME)
