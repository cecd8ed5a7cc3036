"""Cron expressions and time zones against other people's (issue 5, point 5): PyPI croniter, Python's zoneinfo."""

import os
import random
import zoneinfo
from datetime import datetime, timedelta, timezone

import pytest
from croniter import croniter
from lib.runs import Driver

LONG = os.environ.get("DUCT_LONG") == "1"
MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
DAYS = "SUN MON TUE WED THU FRI SAT".split()


@pytest.fixture(scope="module")
def driver():
    made = Driver()
    yield made
    made.close()


def item(rng, low, high, names=None):
    def value(v):
        return names[v - low].lower() if names and rng.random() < 0.3 and v - low < len(names) else str(v)

    first = rng.randint(low, high - 1)  # croniter takes 59-59 for all of them
    kind = rng.random()
    if kind < 0.5:
        return value(first)
    if kind < 0.75:
        return f"{value(first)}-{value(rng.randint(first + 1, high))}"
    if kind < 0.9:
        return f"{first}-{rng.randint(first + 1, high)}/{rng.randint(1, high)}"
    return f"*/{rng.randint(2, high)}"


def field(rng, low, high, names=None):
    if rng.random() < 0.35:
        return "*"
    return ",".join(item(rng, low, high, names) for _ in range(rng.choice([1, 1, 2, 3])))


def is_all(text, low, high):
    """Every value without being `*`: croniter takes that for a restriction where both days count, cron and we do not."""
    values = croniter(f"0 0 {text} * *" if low else f"0 0 * * {text}").expanded[2 if low else 4]
    return text != "*" and (values == ["*"] or len(values) > high - low)


def expression(rng):
    while True:
        text = any_expression(rng)
        *_, day, _month, weekday = text.split()
        if not is_all(day, 1, 31) and not is_all(weekday, 0, 6):
            return text


def any_expression(rng):
    fields = [
        field(rng, 0, 59),
        field(rng, 0, 59),
        field(rng, 0, 23),
        field(rng, 1, 31),
        field(rng, 1, 12, MONTHS),
        field(rng, 0, 6, DAYS),
    ]
    return " ".join(fields if rng.random() < 0.7 else fields[1:])


def theirs(text, after, n):
    """None: croniter says that it never comes."""
    six = text if len(text.split()) == 6 else "0 " + text
    iterator = croniter(six, datetime.fromtimestamp(after, timezone.utc), second_at_beginning=True, max_years_between_matches=30)
    return [int(iterator.get_next(datetime).timestamp()) for _ in range(n)]


def test_expressions_mean_what_croniter_takes_them_for(driver):
    """Thousands of random expressions from random moments on: the next three times, in UTC."""
    rng = random.Random(20261121)
    never = 0
    for i in range(20000 if LONG else 3000):
        text = expression(rng)
        after = rng.randint(0, 4102444800)
        ours = driver.answer("cron", cron=text, zone="", after=after, n=3)
        if "error" in ours:
            assert "never comes" in ours["error"], (text, ours)
            with pytest.raises(Exception):
                theirs(text, after, 1)
            never += 1
            continue
        assert ours["next"] == theirs(text, after, 3), (i, text, after)
    assert never < 100


def test_offsets_are_those_of_zoneinfo(driver):
    """Every zone of the system's database, at random moments and around every change of a random year."""
    rng = random.Random(5)
    folder = "/usr/share/zoneinfo"
    zones = sorted(name for name in zoneinfo.available_timezones() if os.path.isfile(f"{folder}/{name}"))
    assert len(zones) > 300
    for name in zones:
        zone = zoneinfo.ZoneInfo(name)
        moments = [rng.randint(-5000000000, 8000000000) for _ in range(60)]
        year = rng.randint(1920, 2090)
        start = int(datetime(year, 1, 1, tzinfo=timezone.utc).timestamp())
        moments += list(range(start, start + 366 * 86400, 7200))
        expected = [
            int((datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=t)).astimezone(zone).utcoffset().total_seconds())
            for t in moments
        ]
        assert driver.call("offsets", zone=name, at=moments)["offsets"] == expected, name


def wall(t, zone):
    return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=t)).astimezone(zone)


@pytest.mark.parametrize("name", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kathmandu"])
def test_a_named_hour_comes_once_a_day(driver, name):
    """docs/schedules.md: a time of the wall clock comes once on every day, also on those that skip it or show it twice."""
    zone = zoneinfo.ZoneInfo(name)
    rng = random.Random(name)
    for _ in range(20):
        hour, minute = rng.randint(0, 3), rng.choice([0, 15, 30, 45])
        start = int(datetime(rng.randint(2000, 2035), 1, 1, 12, tzinfo=timezone.utc).timestamp())
        times = driver.call("cron", cron=f"{minute} {hour} * * *", zone=name, after=start, n=366)["next"]
        days = [wall(t, zone).date() for t in times]
        assert all(b - a == timedelta(days=1) for a, b in zip(days, days[1:])), (hour, minute, start)
        for t in times:
            shown = wall(t, zone)
            if (shown.hour, shown.minute) != (hour, minute):  # it was skipped: the first moment after the gap
                assert wall(t - 1, zone).utcoffset() < shown.utcoffset()
            else:
                assert shown.fold == 0


def test_any_hour_goes_on_as_time_does(driver):
    """docs/schedules.md: with any hour, nothing is skipped and nothing made up when the clocks move."""
    start = int(datetime(2026, 10, 24, 12, tzinfo=timezone.utc).timestamp())
    for name in ("Europe/Berlin", "America/New_York"):
        times = driver.call("cron", cron="0 */15 * * * *", zone=name, after=start, n=3000)["next"]
        assert {b - a for a, b in zip(times, times[1:])} == {900}
