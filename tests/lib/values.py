"""One spelling per value, so that Postgres' text and DuckDB's text of the same value are equal.

Each function takes the text of one side and gives something hashable and sortable as text; it raises ValueError when the
text is not of its type.
"""

import json
import re
from decimal import Decimal, InvalidOperation


def plain(text):
    return text


def trimmed(text):
    """char(n): trailing blanks mean nothing."""
    return text.rstrip(" ")


def boolean(text):
    if text in ("t", "true", "True"):
        return "true"
    if text in ("f", "false", "False"):
        return "false"
    raise ValueError(f"not a boolean: {text!r}")


def integer(text):
    return str(int(text))


def number(text):
    """numeric: by value, so 1.50 is 1.5, exact to any length."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"not a number: {text!r}") from None
    if not value.is_finite():
        return str(value)
    digits = format(value, "f")
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return "0" if digits in ("-0", "", "-") else digits


def double(text):
    """float8: the shortest text that reads back to the same number."""
    return repr(float(text))


def single(text):
    """float4: both sides print what is needed to read the same float4 back; compared at that precision."""
    value = float(text)
    return f"{value:.8e}" if abs(value) != float("inf") and value == value else repr(value)


def money(text):
    return number(re.sub(r"[$,]", "", text))


def _without_bc(text):
    """Postgres puts BC at the end, DuckDB puts (BC) after the date."""
    if "BC" not in text:
        return text, ""
    return re.sub(r" ?\(?BC\)?", "", text), " BC"


def date(text):
    text, era = _without_bc(text)
    return text + era


def time(text):
    """A time of day, with or without a zone: no trailing zeros in the fraction."""
    match = re.fullmatch(r"([-\d]+:\d\d:\d\d)(\.\d+)?(.*)", text)
    if not match:
        raise ValueError(f"not a time: {text!r}")
    clock, fraction, zone = match.groups()
    return clock + (fraction or "").rstrip("0").rstrip(".") + re.sub(r":00$", "", zone)


def timestamp(text):
    """Both sides speak ISO in UTC; they differ in BC and in trailing zeros."""
    text, era = _without_bc(text)
    if text.endswith("infinity"):
        return text
    day, _, clock = text.partition(" ")
    return f"{day} {time(clock)}{era}"


def uuid(text):
    return text.lower()


def postgres_bytes(text):
    """bytea as Postgres prints it: \\x00ff."""
    if not text.startswith("\\x"):
        raise ValueError(f"not in hex format: {text[:40]!r}")
    return bytes.fromhex(text[2:]).hex()


def duckdb_bytes(text):
    """BLOB as DuckDB prints it: printable bytes as they are, others as \\x00\\xFF."""
    pieces = re.findall(r"\\x([0-9A-Fa-f]{2})|(.)", text, re.DOTALL)
    return b"".join(bytes.fromhex(code) if code else char.encode("ascii") for code, char in pieces).hex()


def json_text(text):
    """By content: blanks, the order of keys and 1.0 against 1.00 mean nothing; 1 and "1" differ."""
    value = json.loads(text, parse_int=_JsonNumber, parse_float=_JsonNumber)
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


class _JsonNumber(dict):
    """A number that is written as {"number": "1.5"}, so that no digit is lost on the way through Python."""

    def __init__(self, text):
        super().__init__(number=number(text))


def inet(text):
    """A host's own prefix length may be left out."""
    return re.sub(r"/(32|128)$", lambda m: "" if (m[1] == "128") == (":" in text) else m[0], text)


_CLOCK = re.compile(r"([+-]?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?")
_PART = re.compile(r"([+-]?\d+) (year|mon|month|day)s?")
_STRUCT = re.compile(r"\{'?months'?: (-?\d+), '?days'?: (-?\d+), '?micros'?: (-?\d+)\}")
_ISO = re.compile(
    r"P(?:(?P<Y>-?\d+)Y)?(?:(?P<M>-?\d+)M)?(?:(?P<W>-?\d+)W)?(?:(?P<D>-?\d+)D)?"
    r"(?:T(?:(?P<h>-?\d+)H)?(?:(?P<m>-?\d+)M)?(?:(?P<s>-?\d*\.?\d+)S)?)?"
)


def interval(text):
    """months, days and microseconds, from Postgres' and ISO notation and from our lake struct."""
    if text in ("infinity", "-infinity"):
        return text
    match = _STRUCT.fullmatch(text)
    if match:
        return " ".join(match.groups())
    match = _ISO.fullmatch(text)
    if match:
        part = {name: value or "0" for name, value in match.groupdict().items()}
        seconds = Decimal(part["h"]) * 3600 + Decimal(part["m"]) * 60 + Decimal(part["s"])
        months = int(part["Y"]) * 12 + int(part["M"])
        return f"{months} {int(part['W']) * 7 + int(part['D'])} {int(seconds * 1_000_000)}"
    months = days = micros = 0
    rest = text
    for count, unit in _PART.findall(text):
        months += int(count) * {"year": 12, "mon": 1, "month": 1}.get(unit, 0)
        days += int(count) if unit == "day" else 0
    rest = _PART.sub("", rest)
    match = _CLOCK.search(rest)
    if match:
        sign, hours, minutes, seconds, fraction = match.groups()
        micros = (int(hours) * 3600 + int(minutes) * 60 + int(seconds)) * 1_000_000
        micros += int((fraction or "").ljust(6, "0"))
        micros = -micros if sign == "-" else micros
        rest = _CLOCK.sub("", rest)
    if rest.strip():
        raise ValueError(f"not an interval: {text!r}")
    return f"{months} {days} {micros}"


def point(text):
    """(1,2) and {'x': 1.0, 'y': 2.0}."""
    numbers = re.fullmatch(r"[({](?:'?x'?: )?([^,]+), ?(?:'?y'?: )?([^)}]+)[)}]", text)
    if not numbers:
        raise ValueError(f"not a point: {text!r}")
    return " ".join(map(double, numbers.groups()))


# Postgres' type name -> how its text is spelled; a pair when the two sides need different functions.
SPELLING = {
    "bool": boolean,
    "int2": integer,
    "int4": integer,
    "int8": integer,
    "oid": integer,
    "numeric": number,
    "money": money,
    "float4": single,
    "float8": double,
    "date": date,
    "time": time,
    "timetz": time,
    "timestamp": timestamp,
    "timestamptz": timestamp,
    "interval": interval,
    "uuid": uuid,
    "bytea": (postgres_bytes, duckdb_bytes),
    "json": json_text,
    "jsonb": json_text,
    "bpchar": trimmed,
    "inet": inet,
    "point": point,
}


def spelling(type_name):
    """The pair (for Postgres' text, for the lake's text)."""
    found = SPELLING.get(type_name, plain)
    return found if isinstance(found, tuple) else (found, found)
