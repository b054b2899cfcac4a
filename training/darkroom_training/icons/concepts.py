"""What the models of version 2 can draw: a name, its icon and the words that people use for it."""

from __future__ import annotations

from dataclasses import dataclass

#: Drawn by the code in any colour; everything else is an icon.
SHAPES = ("circle", "square", "triangle", "star", "heart")


@dataclass(frozen=True, slots=True)
class Concept:
    """A thing to draw.

    `icon` is `<set>/<name>` in the icon packages, None for a shape. `words` are what it is called, the
    first most often. `recolored` things can be asked for in a colour, `sided` ones facing a side;
    `faces` is the side that the icon faces.
    """

    name: str
    icon: str | None
    words: tuple[str, ...]
    recolored: bool = False
    faces: str | None = None


#: `name=icon` (the icon is `fluent/name` where it has none), then `|` and further words.
#: `*`: can be recoloured; `<` or `>`: faces left or right.
_ICONS = """
cat=fluent/cat< | kitten | kitty
dog=noto/dog | puppy
horse=fluent/horse< | pony
cow=noto/cow<
pig=noto/pig<
sheep=noto/ewe< | lamb
rabbit=fluent/rabbit< | bunny
mouse=fluent/mouse<
fox
bear
panda
lion
tiger=fluent/tiger-face
elephant=fluent/elephant<
giraffe=fluent/giraffe<
monkey=fluent/monkey-face
penguin
duck=fluent/duck<
chicken=fluent/rooster< | rooster
owl
bird=noto/bird*<
fish=fluent/fish*<
shark=fluent/shark<
whale=fluent/spouting-whale<
octopus
crab
turtle=fluent/turtle< | tortoise
frog
snake
butterfly=fluent/butterfly
bee=fluent/honeybee
snail=fluent/snail<
dragon
unicorn
dinosaur=fluent/t-rex<
man
woman
boy
girl
baby
astronaut
robot
king=fluent/person-with-crown
queen=fluent/princess | princess
wizard=fluent/woman-mage | mage
chef=fluent/cook | cook
ghost
alien
clown=fluent/clown-face
snowman
apple=fluent/red-apple*
banana
orange=fluent/tangerine | tangerine
lemon
strawberry
cherry=fluent/cherries
grape=fluent/grapes
watermelon
pineapple
carrot
tomato
mushroom
bread
cheese=fluent/cheese-wedge
egg
pizza=noto/pizza
burger=fluent/hamburger | hamburger
cake=fluent/birthday-cake | birthday cake
cookie
donut=fluent/doughnut | doughnut
ice cream=fluent/soft-ice-cream
coffee=noto/hot-beverage | cup of coffee
car=fluent/automobile*< | automobile
bus=noto/bus<
truck=fluent/delivery-truck< | lorry
train=fluent/locomotive< | locomotive
bicycle=fluent/bicycle | bike
motorcycle=fluent/motorcycle< | motorbike
airplane=fluent/airplane | plane | aeroplane
helicopter=fluent/helicopter<
rocket=fluent/rocket | spaceship
boat=fluent/sailboat | sailboat
ship=fluent/ship<
tractor=fluent/tractor<
ufo=fluent/flying-saucer | flying saucer
tree=fluent/deciduous-tree
palm tree=fluent/palm-tree
flower=fluent/blossom
tulip=fluent/tulip*
rose
sunflower
cactus
house=fluent/house | home
castle
church
tent
skyscraper=fluent/office-building | building
sun
moon=fluent/crescent-moon
cloud
snowflake
rainbow
umbrella=fluent/umbrella*
fire
volcano
planet=fluent/ringed-planet
football=fluent/soccer-ball | soccer ball | ball
balloon=fluent/balloon*
gift=fluent/wrapped-gift | present
book=fluent/closed-book*
pencil
key
light bulb=fluent/light-bulb | lamp
clock=fluent/alarm-clock | alarm clock
phone=fluent/mobile-phone | smartphone
computer=fluent/laptop | laptop
camera
guitar
crown
diamond=fluent/gem-stone
hat=fluent/top-hat
shirt=fluent/t-shirt* | t-shirt
dress=noto/dress*
shoe=noto/running-shoe<
chair
teddy bear=fluent/teddy-bear | teddy
skull
pumpkin=fluent/jack-o-lantern
"""


def _parsed(line: str) -> Concept:
    head, *synonyms = (part.strip() for part in line.split("|"))
    marks = head[len(head.rstrip("*<>")) :]
    name, _, icon = head.rstrip("*<>").partition("=")
    return Concept(
        name=name,
        icon=icon or f"fluent/{name}",
        words=(name, *synonyms),
        recolored="*" in marks,
        faces="left" if "<" in marks else "right" if ">" in marks else None,
    )


CONCEPTS: dict[str, Concept] = {
    concept.name: concept
    for concept in (
        *(Concept(name=shape, icon=None, words=(shape,), recolored=True) for shape in SHAPES),
        *(_parsed(line) for line in _ICONS.strip().splitlines()),
    )
}

_IRREGULAR = {
    "mouse": "mice",
    "sheep": "sheep",
    "fish": "fish",
    "bread": "breads",
    "cup of coffee": "cups of coffee",
}


def plural(word: str) -> str:
    """The word for more than one."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("man"):
        return f"{word[:-3]}men"
    if word.endswith(("s", "sh", "ch", "x", "o")) and not word.endswith("ufo"):
        return f"{word}es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"


def article(noun: str) -> str:
    """The noun with `a` or `an` before it."""
    return f"an {noun}" if noun[0] in "aeio" or noun.startswith("umbrella") else f"a {noun}"
