"""The words of Interaction English, by topic. docs/english.md is written from this file.

`CONTENT` is the core: the words that scenes mostly draw from, so that a short training run meets each of them often.
`WIDE` is everything else that can stand where a noun, a name of a thing or a quality can; a dial says how often.
"""

from __future__ import annotations

import random
import re

NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17,
    "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60,
    "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip

FILLERS = ("um", "uh", "uhm", "er", "like", "basically")
HESITATIONS = ("um", "uh", "uhm", "er", "hmm")
BACKCHANNELS = ("mhm", "yeah", "right")


def _list(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(re.findall(r"[a-z']+", text)))


CONTENT = _list(
    """
    apple banana orange lemon cherry grape peach melon sugar bread coffee water dog cat horse tiger monkey
    rabbit lion bear bird fish mouse red green blue yellow purple black white pink brown table window garden
    river mountain paper music doctor teacher pencil bottle camera castle phone ribbon ladder carpet street
    button pocket mirror bell kitchen blanket hammer candle basket desert bridge jacket guitar pillow ocean
    forest island office piano rainbow summer winter thunder train market school evening morning book hello
    goodbye breathe drink stretch blink smile relax posture ready focus careful exactly wonderful louder slower
    thanks great bingo ding quiet again okay now there walk push
    """
)

TOPICS: dict[str, tuple[str, ...]] = {
    "food": _list("""
        bacon bean beef biscuit butter cabbage cake candy carrot cheese chicken chocolate coconut cookie corn cream
        cucumber dinner egg flour garlic ginger ham honey ice jam juice lettuce lunch meal meat milk mushroom noodle
        nut oil olive onion pancake pasta pear pepper pie pizza plum popcorn pork potato pumpkin raspberry rice salad
        salt sandwich sauce sausage snack soup spice spinach steak strawberry tea toast tomato turkey vanilla
        vinegar waffle walnut wheat yogurt breakfast supper recipe mocha latte espresso apricot avocado broccoli
        celery mango mustard oat pea pineapple salmon shrimp tuna
    """),
    "animals": _list("""
        ant bat bee beetle bull butterfly camel chick cow crab crocodile deer dolphin donkey dragon duck eagle
        elephant fox frog giraffe goat goose hamster hawk hedgehog hen insect kangaroo kitten lamb lizard lobster
        mole moth octopus ostrich otter owl panda parrot peacock penguin pig pigeon pony puppy rat raven rooster
        seal shark sheep snail snake sparrow spider squirrel swan turtle wasp whale wolf worm zebra
    """),
    "home": _list("""
        attic balcony bath bathroom bed bedroom bench bowl box broom brush bucket cabinet ceiling cellar chair chimney
        clock closet cup cupboard curtain cushion desk dish door drawer dresser fan faucet fence fireplace floor fork
        freezer fridge furniture garage gate glass hallway heater house iron jar kettle key knife lamp lock mattress
        mug napkin nail needle oven pan pipe plate pot roof room rope rug scissors sheet shelf shower sink soap sofa
        spoon stairs stove string tap teapot tile toilet towel tray vase wall wardrobe apartment pin cloth
    """),
    "town and travel": _list("""
        airport avenue bakery bank barn bicycle boat bus car church cinema city corner country crossing elevator
        engine factory farm ferry fountain gallery harbor helicopter highway hospital hotel journey library map
        museum palace park passport pier plane pharmacy police port prison railway restaurant road rocket sail
        ship shop square stadium station store subway suitcase supermarket taxi theater ticket tower town tractor
        traffic tram truck tunnel vacation van village wagon wheel zoo luggage trip passenger driver
    """),
    "nature": _list("""
        air autumn beach branch bush cave cliff cloud coast dust earth field fire flower fog frost grass hail hill
        jungle lake leaf lightning meadow moon mud nature plant planet pond rain rock root rose sand sea seed shadow
        shore sky snow soil spring star stone storm stream sun sunset sunrise tree tulip valley volcano waterfall
        wave weather wind wood world oak pine daisy flame smoke steam
    """),
    "things and work": _list("""
        album alarm bag ball balloon bandage battery belt brick cable calculator calendar card cart chain chalk coin
        computer crayon diary drum envelope eraser flag flute folder gift glue helmet hook instrument keyboard kite
        lens letter lighter list machine magnet magazine marble medal message microphone model money motor net
        newspaper notebook package paint painting parcel passage pen photo picture plastic poem postcard poster
        present printer prize puzzle radio receipt ring robot ruler saw screen screw shovel sign spade stamp stick
        sword tape telescope television tent tool toy trumpet umbrella violin wallet watch whistle wire medicine
        ticket tablet speaker cushion torch
    """),
    "people and body": _list("""
        actor aunt baby baker boss boy brother captain carpenter chef child clown cook cousin dancer daughter dentist
        designer engineer family farmer father fireman fisherman friend gardener girl grandfather grandmother guest
        guide hero judge king lawyer leader man manager mother nephew neighbor niece nurse painter parent partner
        person pilot pirate player poet president prince princess queen sailor scientist singer sister soldier son
        student tailor thief twin uncle visitor waiter wife wizard woman worker writer husband
        ankle arm back beard blood bone brain cheek chest chin ear elbow eye face finger foot hair hand head heart
        knee leg lip mouth muscle neck nose shoulder skin stomach throat thumb toe tongue tooth wrist
    """),
    "clothes": _list("""
        apron boot cap clothes coat collar cotton costume dress earring glove hat hood jeans leather necklace pajamas
        purse raincoat sandal scarf shirt shoe shorts silk skirt sleeve slipper sock suit sweater tie trousers uniform
        vest wool zipper
    """),
    "ideas and free time": _list("""
        adventure answer art ballet band birthday chess circle club concert contest dance dream exam exercise fact
        festival film football game hobby holiday homework idea joke joy language law lesson library line luck luxury
        magic match meeting memory mistake moment mystery name news number opinion party peace plan point poetry
        problem project promise question race reason rhythm rule science season secret shape show song sound speech
        sport story style surprise symbol team tennis test theory thought treasure truth victory voice war wish word
        work baseball basketball golf hockey swimming skating triangle letter history math habit hope
    """),
    "qualities": _list("""
        angry bad beautiful big bitter blind bold brave bright broken busy calm cheap clean clear clever cloudy cold
        cool correct crazy dark dead deep different difficult dirty dry dull early easy empty expensive false famous
        far fast fat fine flat free fresh full funny gentle gold good gray happy hard healthy heavy high honest hot
        huge hungry kind large late lazy light little lonely long loose loud low lucky modern narrow near new nice
        noisy old open plain polite poor pretty proud quick rare rich ripe rough round sad safe salty serious shallow
        sharp short shut sick silent silver simple slow small smart smooth soft sour special square steep straight
        strange strong stupid sunny sweet tall thick thin thirsty tight tiny tired ugly useful warm weak wet wide wild
        windy wise wrong young
    """),
    "actions": _list("""
        add ask bake begin bend bite blow boil borrow bounce bring build burn buy call carry catch change chase check
        choose clap clean climb close collect come cook copy count cross cry cut dig dive draw drive drop earn eat
        enter explain fall feed feel fight fill find finish fix float fly fold follow forget forgive freeze
        give go grow guess hang hear help hide hit hold hop hug hurry hurt invite join jump keep kick kiss knit knock
        land laugh lead learn leave lend lift listen live look lose love make measure melt mend mix move need nod
        notice offer order own pack pass pay pick play point pour practice prepare press print pull put reach read
        remember rest return ride roll rub run sell send sew shake share shine shout sing sit sleep slide smell
        sneeze speak spell spend spin stand start stay steal stir study swim swing take talk taste teach tell thank
        think throw touch travel trust try turn understand use visit wait wake want warn wash wear whisper win wipe
        wonder work write yell
    """),
}

COLORS = ("red", "green", "blue", "yellow", "purple", "black", "white", "pink", "brown", "orange", "gray")
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
NAMES = _list(
    """
    anna ben carla david emma frank grace henry irene jack julia karen leo lisa lucy maria martin mia
    oliver paula peter rosa sam sarah simon sofia thomas tom vera victor
    """
)
# Never content: they mean something to the listener by themselves.
RESERVED = frozenset(("stop", "cancel", "quiet", "no", "wait", "sorry", *FILLERS, *BACKCHANNELS))

PHRASES = (
    "drink water", "take a break", "check the oven", "look away", "sit straight", "stand up", "breathe in",
    "breathe out", "relax your shoulders", "good morning", "thank you", "keep going", "wake up", "well done",
    "look up", "slow down", "call home", "feed the dog", "open the window", "close the door",
)  # fmt: skip

_core = frozenset(CONTENT)
_used = frozenset((*NUMBERS, *DAYS, *MONTHS, *NAMES, *RESERVED))
WIDE = tuple(
    dict.fromkeys(w for topic in TOPICS.values() for w in topic if w not in _core and w not in _used and len(w) > 1)
)
THINGS = tuple(
    dict.fromkeys(
        w for name in ("food", "animals", "home", "nature", "clothes") for w in TOPICS[name] if w not in _used
    )
)


def content(rng: random.Random, breadth: float = 0.0) -> str:
    """A word for a slot: from the core, or with probability `breadth` from the wide list."""
    return rng.choice(WIDE) if breadth and rng.random() < breadth else rng.choice(CONTENT)


def number_words(value: int) -> tuple[str, ...]:
    """0 .. 999 in words: 23 is ("twenty", "three"). Raises ValueError outside."""
    if not 0 <= value <= 999:
        raise ValueError(f"numbers go from 0 to 999, not {value}")
    if value >= 100:
        return (*number_words(value // 100), "hundred", *(number_words(value % 100) if value % 100 else ()))
    if value == 0:
        return ("zero",)
    for word, n in NUMBERS.items():
        if n == value:
            return (word,)
    tens = next(word for word, n in NUMBERS.items() if n == value // 10 * 10)
    return (tens, *number_words(value % 10))


def number_value(words: str) -> int | None:
    """The number below 100 that a string of words names; None if it names none."""
    if words == "zero":
        return 0
    parts = words.split()
    values = [NUMBERS.get(w) for w in parts]
    if None in values or not 1 <= len(parts) <= 2:
        return None
    if len(parts) == 2 and not (parts[0].endswith("ty") and NUMBERS[parts[1]] < 10):
        return None
    return sum(NUMBERS[w] for w in parts)


NUMBER_PATTERN = (
    "(?:(?:" + "|".join(w for w in NUMBERS if w.endswith("ty")) + ") (?:one|two|three|four|five|six|seven|eight|nine)"
    "|" + "|".join(sorted(("zero", *NUMBERS), key=len, reverse=True)) + ")"
)
