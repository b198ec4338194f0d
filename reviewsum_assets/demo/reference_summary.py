"""Says what a piece of review text tells, in the words the small Pegasus is to learn.

The summary is a function of the facts alone: the same facts always give the same sentences, so
that a small model can learn them, and whatever a summary claims is counted in the text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reviewsum_assets.demo.product_grammar import ASPECTS, Clause
from reviewsum_assets.demo.product_kinds import KINDS, Kind

SENTENCE_MARK = "<n>"

# A side is taken when it has at least this many times the mentions of the other.
_DOMINANCE = 2
# Below this many words a summary would be padded by the generator's minimum length.
_MINIMUM_WORDS = 28

_KIND_NUMBER = {kind.name: number for number, kind in enumerate(KINDS)}


@dataclass(frozen=True)
class Facts:
    """What a text says: the kind of product if it is named, and opinions by aspect.

    The aspects in each tuple stand in order of how often they are mentioned.
    """

    kind: Kind | None
    praised: tuple[str, ...]
    criticized: tuple[str, ...]
    disputed: tuple[str, ...]
    positive: int
    negative: int

    @property
    def verdict(self) -> int:
        """From 0, nearly all is criticism, to 4, nearly all is praise."""
        opinions = self.positive + self.negative
        share = self.positive / opinions if opinions else 0.5
        return sum(share >= threshold for threshold in (0.15, 0.4, 0.6, 0.85))


def facts_of(clauses: Iterable[Clause], kind: Kind) -> Facts:
    """Count what the clauses, all about one product of this kind, say."""
    praise: Counter[str] = Counter()
    blame: Counter[str] = Counter()
    positive = negative = 0
    named = False
    for clause in clauses:
        named = named or clause.names_kind
        if clause.opinion is None:
            continue
        positive += clause.opinion.positive
        negative += not clause.opinion.positive
        if clause.opinion.aspect is not None:
            (praise if clause.opinion.positive else blame)[clause.opinion.aspect] += 1
    mentions = praise + blame
    ranked = [name for name, _ in mentions.most_common()]
    return Facts(
        kind=kind if named else None,
        praised=tuple(name for name in ranked if praise[name] >= _DOMINANCE * blame[name]),
        criticized=tuple(name for name in ranked if blame[name] >= _DOMINANCE * praise[name]),
        disputed=tuple(
            name
            for name in ranked
            if praise[name] < _DOMINANCE * blame[name] and blame[name] < _DOMINANCE * praise[name]
        ),
        positive=positive,
        negative=negative,
    )


_WITH_PRAISE = (
    (
        "Nearly all buyers are unhappy with this {thing}, although some like {praise}.",
        "Hardly anyone is happy with this {thing}, even if some like {praise}.",
    ),
    (
        "Most buyers are disappointed with this {thing}, although they like {praise}.",
        "Many buyers regret getting this {thing}, even though they like {praise}.",
    ),
    (
        "Opinions on this {thing} are mixed: people like {praise}.",
        "Buyers disagree about this {thing}, but they like {praise}.",
    ),
    (
        "Most buyers like this {thing}, above all {praise}.",
        "Most people are happy with this {thing} and like {praise}.",
    ),
    (
        "Nearly all buyers are happy with this {thing} and praise {praise}.",
        "Buyers love this {thing}, and what they like most is {praise}.",
    ),
)
_WITHOUT_PRAISE = (
    (
        "Nearly all buyers are unhappy with this {thing} and find nothing to praise.",
        "Hardly anyone is happy with this {thing}, and nothing about it is praised.",
    ),
    (
        "Most buyers are disappointed with this {thing} and find little to praise.",
        "Many buyers regret getting this {thing} and see little that is good.",
    ),
    (
        "Opinions on this {thing} are mixed, and no single strength stands out.",
        "Buyers disagree about this {thing}, and they agree on no strength.",
    ),
    (
        "Most buyers like this {thing} without naming any particular strength.",
        "Most people are happy with this {thing} but name no particular strength.",
    ),
    (
        "Nearly all buyers are happy with this {thing} without saying exactly why.",
        "Buyers love this {thing}, but they do not say exactly why.",
    ),
)
_NO_OPINIONS = (
    "These buyers tell how they came to this {thing} and what they use it for.",
    "They praise nothing in particular, and they do not complain about anything either.",
)
_COMPLAINTS = (
    "They complain about {blame}.",
    "The biggest problems are {blame}.",
    "On the other hand, they complain about {blame}.",
    "The most common complaints are about {blame}.",
    "The few complaints are about {blame}.",
)
_NO_COMPLAINTS = "There are hardly any complaints in these reviews."
_DISPUTED = "Opinions differ about {disputed}."
_CLOSINGS = (
    "Overall, the criticism clearly outweighs the praise.",
    "Overall, the bad points outweigh the good ones.",
    "Overall, praise and criticism are about even.",
    "Overall, the good points outweigh the bad ones.",
    "Overall, the praise clearly outweighs the criticism.",
)


def reference_summary(facts: Facts) -> str:
    """Write the summary; its sentences are separated by `SENTENCE_MARK`."""
    if not facts.positive + facts.negative:
        return SENTENCE_MARK.join(_NO_OPINIONS).format(thing=_thing(facts))
    verdict = facts.verdict
    # The rarer side of the opinions gets fewer words.
    praise = [ASPECTS[name].praise for name in facts.praised[: 3 if verdict >= 2 else 2]]
    blame = [ASPECTS[name].complaint for name in facts.criticized[: 2 if verdict >= 2 else 3]]
    disputed = [ASPECTS[name].topic for name in facts.disputed[:2]]
    sentences = [_opening(facts, praise), _complaints(verdict, blame)]
    if disputed:
        sentences.append(_DISPUTED.format(disputed=_enumerate(disputed)))
    if not disputed or len(" ".join(sentences).split()) < _MINIMUM_WORDS:
        sentences.append(_CLOSINGS[verdict])
    return SENTENCE_MARK.join(sentences)


def _thing(facts: Facts) -> str:
    return facts.kind.name if facts.kind else "product"


def _opening(facts: Facts, praise: Sequence[str]) -> str:
    wording = _KIND_NUMBER[facts.kind.name] % 2 if facts.kind else 0
    forms = (_WITH_PRAISE if praise else _WITHOUT_PRAISE)[facts.verdict]
    return forms[wording].format(thing=_thing(facts), praise=_enumerate(praise))


def _complaints(verdict: int, blame: Sequence[str]) -> str:
    if not blame:
        return _NO_COMPLAINTS
    text = _COMPLAINTS[verdict].format(blame=_enumerate(blame))
    return text.replace("problems are", "problem is") if len(blame) == 1 else text


def _enumerate(phrases: Sequence[str]) -> str:
    if len(phrases) < 2:
        return "".join(phrases)
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}"
