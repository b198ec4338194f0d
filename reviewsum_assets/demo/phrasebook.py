"""What reviewers of anything say around their opinions, and the words that vary in it."""

from __future__ import annotations

from dataclasses import dataclass

from reviewsum_assets.demo.aspect import clauses


@dataclass(frozen=True)
class Link:
    """How two clauses become one sentence: a mark after the first, a word before the second."""

    mark: str
    word: str


def _listed(text: str) -> tuple[str, ...]:
    return tuple(" ".join(text.split()).split(", "))


SLOTS: dict[str, tuple[str, ...]] = {
    "{span}": _listed("""
        two days, three days, five days, a week, ten days, two weeks, three weeks, a month,
        six weeks
    """),
    "{long}": _listed("""
        six months, eight months, a year, over a year, two years, three years, four years
    """),
    "{short}": _listed("""
        ten minutes, twenty minutes, half an hour, an hour, two hours, three hours
    """),
    "{who}": _listed("""
        my wife, my husband, my daughter, my son, my mother, my father, my grandmother, my
        boyfriend, my girlfriend, my brother, my sister, my uncle, my roommate, my boss, my
        neighbor, my teenager
    """),
    "{pet}": _listed("""
        dog, cat, puppy, toddler, parrot, kitten
    """),
    "{room}": _listed("""
        the living room, the bedroom, the kitchen, the garage, the basement, the attic, the
        office, the hallway, the backyard
    """),
    "{gadget}": _listed("""
        my phone, my laptop, my tablet, my computer, my old phone, my work laptop, my new
        phone
    """),
    "{event}": _listed("""
        Christmas, my birthday, our vacation, Black Friday, the holidays, a long trip, the
        new school year, our wedding, moving to a new apartment
    """),
    "{shop}": _listed("""
        the store, a friend's house, the mall, work, a trade show
    """),
    "{adverb}": _listed("""
        really, very, pretty, quite, surprisingly, truly, so, simply, incredibly
    """),
    "{good}": _listed("""
        great, excellent, good, fantastic, impressive, wonderful, superb, amazing,
        outstanding, lovely, brilliant, nice
    """),
    "{bad}": _listed("""
        terrible, awful, bad, disappointing, horrible, poor, mediocre, weak, a joke, lousy,
        frustrating, dreadful
    """),
}

OPENERS = clauses("""
    I bought this {thing} for {who}
    I bought this {thing} before {event}
    I have had this {thing} for {long}
    I have been using this {thing} for {span} now
    I got this {thing} as a gift from {who}
    I needed {a thing} to use {use}
    {who} wanted {a thing} for {event}
    after {span} of research I decided on this {thing}
    I was looking for {a thing} that I could use {use}
    I saw this {thing} at {shop} and ordered it the same day
    this is the third {thing} that I have owned
    my old {thing} broke, so I ordered this one
    {who} told me to get this {thing}
    I do not write many reviews, but this {thing} deserves one
    we use this {thing} every day {use}
    I ordered this {thing} on a Friday and it came on Monday
    bought this {thing} for {event}
    got this {thing} to use {use}
    this {thing} replaced one that I had for {long}
    here are my thoughts on this {thing} after {span}
""")

STORIES = clauses("""
    I mostly use it {use}
    I use it with {gadget}
    it lives in {room} now
    it came in a plain brown box
    {who} uses it more than I do
    I have tried it with {gadget} and at {shop}
    I am not an expert, just an ordinary person
    {who} laughed at me when I opened the parcel
    I took it along {use}
    I tested it for {span} before writing this
    I will update this review in {long}
    we have two of them, one in {room} and one in {room}
    my {pet} was more interested in the box
    I compared it with the {thing} of {who}
    I had never owned {a thing} before
    for {span} I used it every single day
""")

GENERAL_PRAISE = clauses("""
    the {noun} is {adverb} {good}
    the {noun} is {good}
    the {noun} is just {good}
    I love the {noun}
    I am {adverb} happy with the {noun}
    the {noun} is better than I expected
    I can not complain about the {noun}
    I have nothing bad to say about the {noun}
    the {noun} impressed me
    the {noun} deserves five stars
    I was blown away by the {noun}
    the {noun} is {good} and {who} agrees
    the {noun} is not bad at all
    nothing beats the {noun} of this {thing}
    the {noun} of this {thing} is {good}
    for {a thing} the {noun} is {adverb} {good}
    {who} loves the {noun}
""")

GENERAL_BLAME = clauses("""
    the {noun} is {bad}
    the {noun} is just {bad}
    the {noun} is simply {bad}
    I hate the {noun}
    I am not happy with the {noun}
    the {noun} is worse than I expected
    I can only complain about the {noun}
    I have nothing good to say about the {noun}
    the {noun} let me down
    the {noun} deserves one star at most
    I was disappointed by the {noun}
    the {noun} is {bad} and {who} agrees
    the {noun} is not good at all
    the {noun} ruins this {thing} for me
    the {noun} of this {thing} is {bad}
    for {a thing} the {noun} is {bad}
    {who} hates the {noun}
""")

GOOD_LEADS = clauses("""
    Honestly,
    The best part:
    I have to say,
    What I like most:
    To my surprise,
    To be fair,
    On the plus side,
    And yes,
    What a relief:
""")
BAD_LEADS = clauses("""
    Honestly,
    The worst part:
    I have to say,
    What bothers me most:
    Sadly,
    To be fair,
    On the downside,
    My main gripe:
    Be warned:
""")

AND_LINKS = (Link(",", "and"), Link(", and", "also"), Link(";", "besides,"), Link(",", "plus"))
BUT_LINKS = (
    Link(",", "but"),
    Link(";", "however,"),
    Link(",", "though"),
    Link(",", "yet"),
    Link(". But", "then again"),
)

GOOD_VERDICTS = clauses("""
    highly recommended
    I would buy this {thing} again in a heartbeat
    five stars from me
    I already ordered another one for {who}
    I am very happy with this {thing}
    do yourself a favor and buy it
    best {thing} that I have ever had
    I can recommend this {thing} to everyone
    love it
    all in all a {good} {thing}
""")

BAD_VERDICTS = clauses("""
    I sent it back
    do not buy this {thing}
    save your money and look elsewhere
    I regret buying this {thing}
    one star is still too many
    I want my money back
    stay away from this {thing}
    worst {thing} that I have ever had
    I would not give it to my worst enemy
    I am going back to my old {thing}
""")

GOOD_TITLES = clauses("""
    Five Stars
    Love it
    Great buy
    Exactly what I needed
    Very happy
    Works great
    Would buy again
    Better than expected
    Highly recommend
""")
EVEN_TITLES = ("It's okay", "Mixed feelings", "Three Stars", "Good and bad", "Could be better")
BAD_TITLES = clauses("""
    Disappointed
    One Star
    Don't bother
    Not what I expected
    Waste of money
    Returned it
    Save your money
""")

FOREIGN_REVIEWS = (
    "Muy buen producto, llegó antes de lo esperado y funciona perfectamente.",
    "No me gustó nada, dejó de funcionar a la semana y nadie contesta.",
    "Lo uso todos los días y estoy muy contento con la compra.",
    "Sehr gutes Gerät, ich bin rundum zufrieden und würde es wieder kaufen.",
    "Leider nach zwei Wochen kaputt, der Kundendienst antwortet nicht.",
    "Für den Preis völlig in Ordnung, die Lieferung war schnell.",
    "Très bon produit, je le recommande à tout le monde.",
    "Déçu, il est tombé en panne au bout de trois jours.",
    "Livraison rapide, appareil conforme à la description.",
    "とても使いやすくて、買ってよかったです。また購入したいと思います。",
    "すぐに壊れてしまいました。残念ですが、おすすめできません。",
)
EMOJI = ("😀", "👍", "❤️", "🔥", "😡", "👎", "⭐⭐⭐⭐⭐", "🎧", "🙏")
