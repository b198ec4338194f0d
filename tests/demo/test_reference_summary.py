"""What the small Pegasus learns to say is counted in the text, and only there."""

from __future__ import annotations

from random import Random

from reviewsum_assets.demo.claims import claims_of
from reviewsum_assets.demo.product_grammar import Clause, Opinion
from reviewsum_assets.demo.product_kinds import KINDS
from reviewsum_assets.demo.reference_summary import facts_of, reference_summary
from reviewsum_assets.demo.training_examples import training_example

WEBCAM = next(kind for kind in KINDS if kind.name == "webcam")


def _clauses(aspect: str, *opinions: bool) -> list[Clause]:
    return [Clause("this webcam", Opinion(aspect, good), names_kind=True) for good in opinions]


def test_an_aspect_is_praised_only_if_praise_is_twice_the_criticism() -> None:
    clauses = [*_clauses("picture", True, True, False), *_clauses("setup", True, False)]
    facts = facts_of(clauses, WEBCAM)
    assert facts.praised == ("picture",)
    assert facts.disputed == ("setup",)
    assert facts.criticized == ()


def test_the_most_mentioned_aspect_comes_first() -> None:
    clauses = [*_clauses("picture", False), *_clauses("setup", False, False)]
    assert facts_of(clauses, WEBCAM).criticized == ("setup", "picture")


def test_a_kind_that_is_not_named_is_not_claimed() -> None:
    facts = facts_of([Clause("it is fine", Opinion("setup", True))], WEBCAM)
    assert claims_of(reference_summary(facts)).kind is None


def test_every_reference_summary_claims_only_facts_of_its_chunk() -> None:
    rng = Random(3)
    for _ in range(300):
        example = training_example(rng, tokens=rng.randrange(6, 300), count=len)
        claims = claims_of(example.summary)
        assert claims.praised <= {*example.facts.praised}
        assert claims.criticized <= {*example.facts.criticized}
        assert claims.kind == (example.facts.kind.name if example.facts.kind else None)


def test_the_same_seed_gives_the_same_example() -> None:
    first, second = (training_example(Random(9), tokens=900, count=len) for _ in range(2))
    assert first == second
