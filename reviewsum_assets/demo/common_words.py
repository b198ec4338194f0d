"""Everyday English words that no sample review needs but other reviews do.

They give the vocabulary pieces for ordinary text, and the model practice in passing over words
that it knows nothing about.
"""

from __future__ import annotations

_WORDS = """
    about above accept account across act add adult advice afraid against age agree ahead air allow
    almost alone along already also always among amount angry animal another answer anyone anything
    appear apple area arm around arrive art ask attach attention available average avoid away baby
    back bag ball bank base basic bath beach bean bear beat beautiful because become bed before
    begin behind believe bell belong below belt bend beside bike bill bird bit bite block blood blow
    board boat body bone book born borrow both bottle bottom bowl boy branch bread break breath
    bridge bring broad brown brush build burn business busy butter button cable cake call calm can
    candle card care carry case cash catch cause center chain chair chance change charge cheap check
    cheese chest child choice choose church circle city class clean clear climb clock close cloth
    cloud coat cold collar collect comb come common company compare complete contain continue cook
    copy corner correct cost cotton count country couple course cover crack cream create cross crowd
    cry cup curtain curve custom cut damage dance danger dark date deal dear decide deep delay
    delicate deliver depend describe desk detail different dinner direct dirty discount discover
    dish distance doctor door double doubt down drawer dream dress drink drive drop dry during dust
    duty each early earth east eat edge effect egg eight either electric else empty encourage end
    engine enjoy enter entire equal error evening event ever every exact example exchange exist
    expect expensive explain extra eye fabric face fact fail fair fall false family famous far farm
    fast favorite fear feature feed feel fence few field fight fill filter final find fine finger
    finish fire first fish five flat flavor floor flow flower fly fold follow food foot force forget
    fork form forward four frame free fresh friend from front fruit full function furniture game
    gather general gentle gift girl give glad glass glove glue goal gold gone grass gray green grind
    ground group grow guess guest guide guitar hair half hammer hand handle hang happen hard hat
    head health hear heart heavy height hello help her here hide high hill him hold hole home honest
    hook hope horse hospital hotel hour house how huge human hundred hurry hurt ice idea ignore
    imagine important inch include increase indeed inside instead interest invite iron island
    item jacket job join joke juice jump keep kettle kid kind kiss kit knee knife knock know lady
    lake lamp land large last late laugh law lead leaf leak learn least leather leave leg lemon less
    let letter level lid lie lift light like limit line link lip list listen little load local lock
    log long look loose lose lot low luck lunch machine magazine magnet mail main make manage many
    map mark market mass master mat match material matter mattress may maybe meal mean measure meat
    medium meet member memory mention mess message metal method middle might mile milk million mind
    minute mirror miss mistake mix model modern moment money month mood moon more morning most
    motion motor mount mouth move movie mud much music must nail name narrow nation natural near
    neat neck need needle neither nerve network never new next nice noise none normal north nose
    note notice now nut oak object ocean odd offer often oil once onion only open option orange
    order organ other ought out oven over own pack page pain paint pair pan paper parcel pardon
    parent park part party pass past path patient pattern pay peace pen pencil people pepper perfect
    perhaps person photo piano pick piece pillow pin pipe place plain plan plant plate play please
    plenty plug pocket point polish pool poor possible post pot pound pour powder power practice
    prefer prepare present press pretty print private probably problem process produce product
    promise proper protect proud provide public pull pump purchase pure purple purpose push quality
    quarter quick quiet quite rack radio rain raise range rare rate rather raw reach read ready real
    reason receive recent recipe record reduce refuse regular remember remote remove rent repair
    repeat replace reply request rest result return rice rich ride right ring rise river road rock
    roll roof room rope rough round row rubber rug ruin rule run rust safe salad salt same sample
    sand sauce save say scale school scissors seal search seat second secret see seem select sell
    send sense separate serious serve set seven several sew shade shake shape share sharp sheet
    shelf shell shine ship shirt shock shoe short should shoulder show shower shut sick side sign
    silent silk silver simple since sing single sink sister sit six skin skirt sky sleep slide slip
    slow small smart smell smile smoke smooth snow soap sock soft solid some son song soon sort soup
    south space spare speak special speed spend spice spoon sport spot spread spring square stage
    stain stair stamp stand star start state station stay steam steel step stick still stone stop
    store storm story straight strap street strength stretch strike string strong student study
    stuff style sugar suggest suit summer sun supply support sure surface surprise sweater sweet
    swim switch table tail take talk tall tank tape taste tea teach team tear tell ten tent test
    than thank that their them then there these they thick thin thing think third this those though
    thread three through throw thumb ticket tie tight time tin tip tire title to today together
    toilet tomato tomorrow tongue too tool tooth top total touch towel tower town toy trade train
    trash travel tray tree trial trip trouble truck true trust try tube turn twice two type ugly
    umbrella uncle under unit until up upon upset use usual value various very view village visit
    voice wait walk wall want warm warn wash waste watch water wave way wear weather week weight
    welcome well west wet what wheel when where which while white whole why wide wild will win wind
    window wine wing winter wipe wire wise wish with without woman wonder wood wool word work world
    worry worse would wrap write wrong yard year yellow yes yesterday young zipper zone
    """

COMMON_WORDS = tuple(_WORDS.split())
ENDINGS = ("", "", "", "s", "ed", "ing", "er", "ly", "ness", "able")
