from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from reviewsum_assets.checkpoints.plan import words_of

SPACES = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()]
pieces = st.one_of(st.sampled_from([*SPACES, *SPACES[:6], " " * 5]), st.text(max_size=5))


@given(st.lists(pieces, max_size=30).map("".join))
def test_words_are_what_python_splits_a_text_into(text: str) -> None:
    assert words_of(text) == " ".join(text.split()).encode("utf-8", "surrogatepass")


def test_half_of_a_surrogate_pair_is_no_obstacle() -> None:
    assert words_of(" a\n\ud800\u00a0b") == b"a \xed\xa0\x80 b"
