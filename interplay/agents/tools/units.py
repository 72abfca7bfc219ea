"""Units: lengths, weights, volumes, times, speeds, data and temperatures, exact where the definition is."""

from __future__ import annotations

from fractions import Fraction

from interplay.agents.tools.tool import ToolError, tool
from interplay.background.numbers import speak_number

F = Fraction
# unit -> (dimension, how many of the dimension's base unit); inch, pound and gallon by their definition of 1959 / US.
TABLE: dict[str, tuple[str, Fraction]] = {
    "millimeter": ("length", F(1, 1000)), "centimeter": ("length", F(1, 100)), "meter": ("length", F(1)),
    "kilometer": ("length", F(1000)), "inch": ("length", F(254, 10_000)), "foot": ("length", F(3048, 10_000)),
    "yard": ("length", F(9144, 10_000)), "mile": ("length", F(1_609_344, 1000)), "nautical mile": ("length", F(1852)),
    "milligram": ("weight", F(1, 1000)), "gram": ("weight", F(1)), "kilogram": ("weight", F(1000)),
    "ton": ("weight", F(1_000_000)), "ounce": ("weight", F(45_359_237, 1_600_000)),
    "pound": ("weight", F(45_359_237, 100_000)), "stone": ("weight", F(14 * 45_359_237, 100_000)),
    "milliliter": ("volume", F(1, 1000)), "centiliter": ("volume", F(1, 100)), "liter": ("volume", F(1)),
    "teaspoon": ("volume", F(3_785_411_784, 768 * 10**9)), "tablespoon": ("volume", F(3_785_411_784, 256 * 10**9)),
    "cup": ("volume", F(3_785_411_784, 16 * 10**9)), "pint": ("volume", F(3_785_411_784, 8 * 10**9)),
    "quart": ("volume", F(3_785_411_784, 4 * 10**9)), "gallon": ("volume", F(3_785_411_784, 10**9)),
    "second": ("time", F(1)), "minute": ("time", F(60)), "hour": ("time", F(3600)), "day": ("time", F(86_400)),
    "week": ("time", F(604_800)),
    "kilometer per hour": ("speed", F(1000, 3600)), "meter per second": ("speed", F(1)),
    "mile per hour": ("speed", F(1_609_344, 3_600_000)), "knot": ("speed", F(1852, 3600)),
    "byte": ("data", F(1)), "kilobyte": ("data", F(10**3)), "megabyte": ("data", F(10**6)),
    "gigabyte": ("data", F(10**9)), "terabyte": ("data", F(10**12)),
}  # fmt: skip
TEMPERATURES = {"celsius": (F(1), F(0)), "fahrenheit": (F(5, 9), F(-160, 9)), "kelvin": (F(1), F(-27_315, 100))}
SHORT = {
    "mm": "millimeter", "cm": "centimeter", "m": "meter", "km": "kilometer", "in": "inch", "ft": "foot", "yd": "yard",
    "mi": "mile", "mg": "milligram", "g": "gram", "kg": "kilogram", "kilo": "kilogram", "oz": "ounce", "lb": "pound",
    "ml": "milliliter", "cl": "centiliter", "l": "liter", "s": "second", "min": "minute", "h": "hour",
    "kmh": "kilometer per hour", "mph": "mile per hour", "mb": "megabyte", "gb": "gigabyte", "tb": "terabyte",
    "feet": "foot", "inches": "inch", "tonne": "ton", "metre": "meter", "litre": "liter", "centigrade": "celsius",
}  # fmt: skip


def unit(name: str) -> str | None:
    """The unit's name in the table, or None. "Feet", "km", "degrees Celsius" and plurals are understood."""
    word = " ".join(name.lower().replace("°", "").replace("/h", " per hour").split())
    word = word.removeprefix("degrees ").removeprefix("degree ").replace("metre", "meter").replace("litre", "liter")
    head, _, tail = word.partition(" per ")
    for candidate in (head, head.removesuffix("s"), head.removesuffix("es")):
        full = SHORT.get(candidate, candidate) + (f" per {tail.removesuffix('s')}" if tail else "")
        if full in TABLE or full in TEMPERATURES:
            return full
    return None


@tool
def units(value: float, from_unit: str, to_unit: str) -> str:
    """Convert a value between units of length, weight, volume, time, speed, data or temperature."""
    return convert(Fraction(str(value)), from_unit, to_unit)


def convert(value: Fraction, from_unit: str, to_unit: str) -> str:
    """A spoken line such as "5 miles is about 8.0467 kilometers". Raises ToolError with a sentence."""
    source, target = unit(from_unit), unit(to_unit)
    for given, known in ((from_unit, source), (to_unit, target)):
        if known is None:
            raise ToolError(f"I do not know the unit {given[:40]}.")
    assert source is not None and target is not None
    if source in TEMPERATURES and target in TEMPERATURES:
        scale, zero = TEMPERATURES[source]
        scale_to, zero_to = TEMPERATURES[target]
        result = (value * scale + zero - zero_to) / scale_to
    elif source in TABLE and target in TABLE and TABLE[source][0] == TABLE[target][0]:
        result = value * TABLE[source][1] / TABLE[target][1]
    else:
        raise ToolError(
            f"{_plural(source, Fraction(2)).capitalize()} cannot be turned into {_plural(target, Fraction(2))}."
        )
    return f"{speak_number(value)} {_plural(source, value)} is {speak_number(result)} {_plural(target, result)}."


def _plural(name: str, value: Fraction) -> str:
    if name in TEMPERATURES:
        return "kelvin" if name == "kelvin" else f"degrees {name.capitalize()}"
    if value == 1:
        return name
    head, _, tail = name.partition(" per ")
    many = {"foot": "feet", "inch": "inches", "stone": "stone"}.get(head, head + "s")
    return f"{many} per {tail}" if tail else many
