"""Aspects of owning a device: build, fit, setup, software, money, help, in its reviewers' words."""

from __future__ import annotations

from reviewsum_assets.demo.aspect import Aspect, clauses

OWNERSHIP_ASPECTS = (
    Aspect(
        name="build",
        topic="the build quality",
        praise="the solid build",
        complaint="the cheap build",
        nouns=("build quality", "construction", "finish"),
        loved=clauses("""
            it feels solid and well made
            nothing creaks or wobbles
            the metal body feels like a luxury item
            you can tell that care went into the materials
            it is built like a tank
            the seams are tight and the finish is flawless
            it feels far more expensive than it was
            the parts fit together perfectly
        """),
        hated=clauses("""
            it feels like a cheap plastic toy
            the case creaks whenever I pick it up
            the seams do not line up and the edges are sharp
            the plastic is so thin that it bends
            something rattles inside
            the cover never sits flush
            the paint came off on my hands
            it wobbles on the table because it is not even flat
        """),
    ),
    Aspect(
        name="durability",
        topic="the durability",
        praise="the good durability",
        complaint="the poor durability",
        nouns=("durability", "reliability"),
        loved=clauses("""
            it has survived more drops than I can count
            after {long} of daily use it still works like new
            my {pet} knocked it off the shelf and it did not care
            it got soaked in the rain and kept working
            mine is {long} old and shows no wear
            it went through the washing machine and survived
            I have had it for {long} without a single problem
            it takes a beating and keeps on going
        """),
        hated=clauses("""
            it stopped working after {span}
            it died one day after the warranty ended
            it broke the first time I dropped it
            mine fell apart within {span}
            this is the second one that quit on me
            it simply will not turn on anymore
            a few drops of rain killed it
            one morning it was dead and nothing brings it back
        """),
    ),
    Aspect(
        name="size",
        topic="the size",
        praise="the handy size",
        complaint="the awkward size",
        nouns=("size", "weight"),
        loved=clauses("""
            it is small enough to slip into my pocket
            it weighs next to nothing
            it takes up hardly any space
            it fits perfectly in my bag
            it is just the right size for {room}
            it is so light that I forget I am carrying it
            compact and light, just what I was looking for
        """),
        hated=clauses("""
            it is much bigger than it looks in the photos
            it is too bulky to carry around
            it weighs a ton
            it does not fit in any of my bags
            it takes up half of my desk
            it is far too small for my big hands
            heavy as a brick, I leave it at home most days
        """),
    ),
    Aspect(
        name="comfort",
        topic="the comfort",
        praise="the great comfort",
        complaint="the lack of comfort",
        nouns=("comfort", "fit"),
        loved=clauses("""
            I can use it all day without any soreness
            it is so comfortable that I forget it is there
            it fits me like a glove
            no more sore wrists or aching ears
            it is soft, and it does not pinch anywhere
            I fell asleep with it, it is that comfy
            the shape is perfect for me
        """),
        hated=clauses("""
            it hurts after {short}
            it pinches and leaves red marks
            I had to take a break because everything ached
            it is stiff and never feels right
            it rubbed my skin raw
            the shape is plain uncomfortable
            I get sore from it within {short}
        """),
    ),
    Aspect(
        name="controls",
        topic="the controls",
        praise="the simple controls",
        complaint="the fiddly controls",
        nouns=("button layout", "control panel"),
        loved=clauses("""
            the buttons are exactly where my fingers expect them
            every button gives a satisfying click
            I can work the controls without looking
            the keys are large and easy to press
            one knob does it all and it is a joy to turn
            even {who} found the right button at once
            the controls are simple and make sense
        """),
        hated=clauses("""
            the buttons are tiny and hard to press
            I keep hitting the wrong button
            the keys stick and have to be pressed twice
            the controls make no sense whatsoever
            you have to hold three buttons at once to do anything
            the power button is in the worst possible place
            one of the buttons got stuck within {short}
        """),
    ),
    Aspect(
        name="setup",
        topic="the setup",
        praise="the easy setup",
        complaint="the difficult setup",
        nouns=("setup", "installation", "setup process"),
        loved=clauses("""
            I had it up and running in five minutes
            setup was a breeze
            {who} set it up without any help
            I plugged it in and it just worked
            the instructions are clear and have good pictures
            it took longer to open the box than to install it
            installing it was easier than I feared
            no software, no fuss, it worked right out of the box
        """),
        hated=clauses("""
            it took me {short} of cursing to set it up
            the instructions are useless
            setup failed again and again until I gave up
            the manual is one tiny sheet in bad English
            I needed {who} to get it installed
            installing it was a nightmare
            it wants three accounts before you can even start
            the setup wizard hangs at the last step every time
        """),
    ),
    Aspect(
        name="app",
        topic="the app",
        praise="the useful app",
        complaint="the buggy app",
        nouns=("app", "phone app", "companion app"),
        loved=clauses("""
            the app is clean and easy to understand
            the app shows me everything that I want to know
            I love how much you can adjust in the app
            the app has never let me down
            updates to the app keep adding useful things
            even {who} gets along with the app
            I can do everything from the app in seconds
        """),
        hated=clauses("""
            the app crashes every time I open it
            the app forgets all my settings
            the app has not worked since the last update
            I get logged out of the app every {short}
            the app hangs and shows a white page
            the app asks for my location for no good reason
            half of the functions in the app do nothing
        """),
    ),
    Aspect(
        name="price",
        topic="the price",
        praise="the fair price",
        complaint="the high price",
        nouns=("price", "value"),
        loved=clauses("""
            you will not find a better deal
            it costs half of what the big brands want
            it is worth every penny
            a real bargain for what you get
            I got it for less than a dinner for two
            great value for the money
            for this little money I expected much less
        """),
        hated=clauses("""
            it costs way too much for what it does
            I paid a fortune for this
            it is not worth the money
            you can get the same thing for half as much
            what a rip off
            you mostly pay for the name on the box
            I have seen cheaper ones that do more
        """),
    ),
    Aspect(
        name="support",
        topic="the customer support",
        praise="the helpful support",
        complaint="the unhelpful support",
        nouns=("customer service", "support", "customer support"),
        loved=clauses("""
            customer service sent me a new one within {span}
            I wrote to support and had an answer the same day
            the seller replaced it, no questions asked
            the woman on the support line was patient and kind
            they refunded me right away when I had a problem
            I have never had such friendly customer service
            support stayed on the phone until it was fixed
        """),
        hated=clauses("""
            customer service never answered my emails
            support kept me on hold for {short} and then hung up
            the seller refuses to refund me
            they told me to pay for the return myself
            support only sends the same canned reply
            I have been waiting {span} for an answer from support
            customer service blamed me for the problem
        """),
    ),
)
