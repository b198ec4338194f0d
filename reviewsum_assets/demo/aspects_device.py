"""Aspects of the device itself: what it does and how well, in the words of its reviewers."""

from __future__ import annotations

from reviewsum_assets.demo.aspect import Aspect, clauses

DEVICE_ASPECTS = (
    Aspect(
        name="battery",
        topic="the battery life",
        praise="the long battery life",
        complaint="the weak battery",
        nouns=("battery", "battery life"),
        loved=clauses("""
            the battery easily lasts {span}
            one charge gets me through {span}
            I only have to charge it every {span}
            after {span} the battery was still above half
            the battery just keeps going and going
            it never ran out of power {use}
            I forget when I last charged it
            it holds a charge far longer than my old one did
            battery life is even better than advertised
        """),
        hated=clauses("""
            the battery is dead after {short}
            it barely makes it through {short} on a full charge
            I have to charge it all the time
            the battery drains even when I am not using it
            it ran out of power {use}
            after {span} it no longer holds a charge
            battery life is nowhere near what they advertise
            the low battery warning comes on far too soon
            a full charge is gone before I know it
        """),
    ),
    Aspect(
        name="sound",
        topic="the sound",
        praise="the rich sound",
        complaint="the poor sound",
        nouns=("sound", "sound quality", "audio"),
        loved=clauses("""
            the bass is deep and the voices are crisp
            music sounds full and warm
            it fills {room} with music
            I hear details in songs that I never noticed before
            the sound is loud and does not distort
            podcasts and audiobooks come through beautifully
            it sounds like something twice as big
            highs are clear and the low end has real punch
            even at full volume it sounds clean
        """),
        hated=clauses("""
            there is no bass at all
            music sounds thin and tinny
            it crackles as soon as I turn it up
            voices sound muffled, as if under a blanket
            even at the highest volume I can hardly hear it
            the left side is quieter than the right
            there is a constant hiss in the background
            everything above half volume is distorted
            it sounds like an old radio in a tin can
        """),
    ),
    Aspect(
        name="screen",
        topic="the screen",
        praise="the excellent screen",
        complaint="the disappointing screen",
        nouns=("screen", "display"),
        loved=clauses("""
            I can read the screen even in bright sunlight
            text on the display is razor sharp
            colors really pop on this screen
            the display is bright and easy on the eyes
            there is no glare at all on the screen
            black is really black on this display
            the backlight is even from corner to corner
            my eyes do not get tired looking at the screen
            the screen goes dim enough for {room} at night
        """),
        hated=clauses("""
            I cannot read the screen outdoors
            the display is dim even at full brightness
            there were two dead pixels on the screen
            the screen shows every fingerprint and reflects every lamp
            colors on the display look washed out
            light bleeds in from the edge of the screen
            the display flickers and gives me a headache
            text on the screen is fuzzy
            the screen got scratched within {short}
        """),
    ),
    Aspect(
        name="picture",
        topic="the picture quality",
        praise="the clear picture",
        complaint="the poor picture",
        nouns=("picture", "picture quality", "video", "image quality"),
        loved=clauses("""
            the video is sharp even at night
            I can read license plates and faces in the footage
            the picture is crisp with natural colors
            footage comes out smooth and steady
            people tell me how good I look on video
            it handles bright light and shadow very well
            the wide lens gets everything into the picture
            the recordings look much better than those of my phone
            every frame is full of detail
        """),
        hated=clauses("""
            the video is grainy as soon as the sun goes down
            faces are a blur in the footage
            everything in the picture has a blue tint
            the image freezes and turns to blocks
            it keeps hunting for focus while I talk
            footage is so shaky that I feel sick watching it
            bright windows turn the whole picture white
            the recordings look like they were made years ago
            you cannot make out any detail in the footage
        """),
    ),
    Aspect(
        name="microphone",
        topic="the microphone",
        praise="the clear microphone",
        complaint="the bad microphone",
        nouns=("microphone", "mic"),
        loved=clauses("""
            callers say that they hear me loud and clear
            the mic blocks out my noisy {pet} completely
            it picks up my voice from across {room}
            nobody asks me to repeat myself in meetings anymore
            my voice sounds natural through the microphone
            it understands me even when I whisper
            colleagues noticed at once how clear I sound
            the mic leaves out the wind and the traffic
        """),
        hated=clauses("""
            callers say that I sound as if I were under water
            the mic picks up everything but my voice
            I have to shout before it hears me
            nobody on the other end can understand me
            the microphone cuts out in the middle of a call
            people complain about an echo when I speak
            any wind at all drowns out my voice
            my coworkers begged me to use another microphone
        """),
    ),
    Aspect(
        name="connection",
        topic="the connection",
        praise="the stable connection",
        complaint="the unreliable connection",
        nouns=("connection", "wireless connection", "signal"),
        loved=clauses("""
            it has not dropped the connection once in {span}
            it finds {gadget} the second I turn it on
            the signal reaches every corner of the house
            it stays connected even two rooms away
            pairing with {gadget} took one tap
            switching from {gadget} to the television just works
            there is no lag and there are no dropouts
            the connection is rock solid {use}
        """),
        hated=clauses("""
            it drops the connection every {short}
            it refuses to pair with {gadget}
            the signal does not even reach {room}
            I have to reconnect it again and again
            it loses {gadget} the moment I walk away
            the link stutters and cuts out {use}
            it disconnects for no reason at all
            there is an annoying lag before anything happens
        """),
    ),
    Aspect(
        name="speed",
        topic="the speed",
        praise="the fast performance",
        complaint="the slow performance",
        nouns=("speed", "performance"),
        loved=clauses("""
            it is blazing fast
            large files are done before my coffee is
            everything opens in the blink of an eye
            it never slows down, no matter what I throw at it
            I measured more than twice the speed of my old one
            it wakes up instantly and responds right away
            it moved my whole photo library in {short}
            there is no waiting and no stutter
        """),
        hated=clauses("""
            it is painfully slow
            every tap takes seconds to register
            large files take forever
            it slows to a crawl after {short}
            I got less than half of the advertised speed
            it freezes whenever I do two things at once
            I spend more time waiting than using it
            my old one was much faster
        """),
    ),
    Aspect(
        name="charging",
        topic="the charging",
        praise="the quick charging",
        complaint="the slow charging",
        nouns=("charging", "charging speed"),
        loved=clauses("""
            it is fully charged in under an hour
            a few minutes on the charger give me hours of use
            it charges faster than anything else I own
            it goes from empty to full while I have lunch
            fast charging really is fast
            it charged {gadget} to the top in no time
            I plug it in at breakfast and it is full when I leave
        """),
        hated=clauses("""
            it takes all night to charge
            charging is so slow that I gave up waiting
            after three hours on the charger it was still not full
            it charges at a snail's pace
            it took half a day to charge {gadget}
            I left it plugged in for hours and got ten percent
            fast charging is anything but fast
        """),
    ),
    Aspect(
        name="heat",
        topic="the heat",
        praise="how cool it stays",
        complaint="how hot it gets",
        nouns=("temperature", "heat management"),
        loved=clauses("""
            it stays cool even after hours of use
            it never gets more than a little warm
            I was afraid of overheating, but it stays cold to the touch
            even in the summer sun it does not overheat
            it runs cool and quiet all day
            unlike my old one it does not heat up
        """),
        hated=clauses("""
            it gets so hot that I cannot touch it
            it overheats and shuts itself off
            after {short} it was hot enough to fry an egg
            I worry that it will start a fire, it runs that hot
            it becomes burning hot {use}
            the case heats up like an oven
        """),
    ),
)
