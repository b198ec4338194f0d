"""The kinds of products that the sample reviews are about, and what can be said of each.

Every noun is singular and every use fits behind "I use it", so that the grammar can combine them
freely.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of product.

    ``name`` is the noun of its summaries, ``nouns`` what reviewers call it, ``uses`` when or where
    they use it, ``aspects`` the names of the aspects they judge.
    """

    name: str
    nouns: tuple[str, ...]
    uses: tuple[str, ...]
    styles: tuple[str, ...]
    aspects: tuple[str, ...]


def _kind(name: str, nouns: str, uses: str, styles: str, aspects: str) -> Kind:
    return Kind(
        name=name,
        nouns=tuple(nouns.split(", ")),
        uses=tuple(uses.split(", ")),
        styles=tuple(styles.split(", ")),
        aspects=(*aspects.split(), "build", "durability", "price", "support"),
    )


KINDS = (
    _kind(
        "pair of headphones",
        "pair of headphones, headset, pair of wireless headphones",
        "on my commute, at the gym, on long flights, in a noisy office",
        "Color: Black, Color: White, Color: Rose Gold",
        "battery sound microphone connection charging size comfort controls app",
    ),
    _kind(
        "e-reader",
        "e-reader, reader, ebook reader",
        "in bed, at the beach, on the train, in the garden",
        "Size: 6 inch, Size: 8 inch, Color: Graphite",
        "battery screen speed charging size comfort controls setup",
    ),
    _kind(
        "router",
        "router, Wi-Fi router, wireless router",
        "in a house with three floors, for streaming and gaming, with thirty devices",
        "Style: Single, Style: Pack of 2",
        "connection speed heat size setup app",
    ),
    _kind(
        "webcam",
        "webcam, web cam, web camera",
        "for video calls, for online classes, when I work from home, for streaming",
        "Style: 1080p, Style: 4K",
        "picture microphone connection heat size setup",
    ),
    _kind(
        "keyboard",
        "keyboard, wireless keyboard, mechanical keyboard",
        "at the office, for writing my novel, for gaming, all day for programming",
        "Style: Red Switches, Style: Brown Switches, Color: Black",
        "battery connection size comfort controls setup",
    ),
    _kind(
        "power bank",
        "power bank, battery pack, portable charger",
        "on camping trips, when traveling, at festivals, during power cuts",
        "Size: 10000 mAh, Size: 20000 mAh, Color: Blue",
        "battery speed charging heat size controls",
    ),
    _kind(
        "smart speaker",
        "smart speaker, voice assistant speaker, smart home speaker",
        "in the kitchen, for timers and recipes, to control the lights, as an alarm clock",
        "Color: Charcoal, Color: Sandstone",
        "sound microphone connection speed size setup app",
    ),
    _kind(
        "dash cam",
        "dash cam, dashcam, dash camera",
        "on my way to work, in my truck, on road trips, in my taxi",
        "Style: Front Only, Style: Front and Rear",
        "screen picture heat size setup app",
    ),
    _kind(
        "monitor",
        "monitor, computer monitor, desktop monitor",
        "for photo editing, at my standing desk, for gaming, for spreadsheets",
        "Size: 24 inch, Size: 27 inch, Size: 32 inch",
        "sound screen speed heat size controls setup",
    ),
    _kind(
        "mouse",
        "mouse, wireless mouse, computer mouse",
        "at work, for gaming, with my laptop, for drawing",
        "Color: Black, Color: Silver, Style: Left Handed",
        "battery connection charging size comfort controls setup",
    ),
    _kind(
        "fitness band",
        "fitness band, fitness tracker, activity tracker",
        "on my morning run, at the pool, at night to track my sleep, for hiking",
        "Size: Small, Size: Large, Color: Coral",
        "battery screen connection charging comfort setup app",
    ),
    _kind(
        "portable SSD",
        "portable SSD, external SSD, SSD drive",
        "for backups, for video editing, for my game library, on photo trips",
        "Capacity: 500 GB, Capacity: 1 TB, Capacity: 2 TB",
        "connection speed heat size setup",
    ),
    _kind(
        "Bluetooth speaker",
        "Bluetooth speaker, portable speaker, party speaker",
        "by the pool, in the shower, at barbecues, in the workshop",
        "Color: Teal, Color: Red, Color: Camouflage",
        "battery sound connection charging size controls app",
    ),
    _kind(
        "action camera",
        "action camera, action cam, helmet camera",
        "on my mountain bike, for skiing, while diving, on vacation",
        "Style: Camera Only, Style: Bundle",
        "battery screen picture microphone heat size controls app",
    ),
    _kind(
        "tablet",
        "tablet, tablet computer, touchscreen tablet",
        "on the couch, for drawing, for my recipes, for the kids in the car",
        "Size: 32 GB, Size: 64 GB, Color: Gold",
        "battery sound screen speed charging heat size setup",
    ),
    _kind(
        "video doorbell",
        "video doorbell, doorbell camera, smart doorbell",
        "at our front door, to watch for parcels, when we are away, at the garden gate",
        "Style: Wired, Style: Wireless",
        "battery picture microphone connection speed setup app",
    ),
)
