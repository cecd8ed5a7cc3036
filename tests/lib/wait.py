"""The only place that waits: polls a condition until it holds or the time is over."""

import time
from datetime import UTC, datetime, timedelta


class WaitTimeout(AssertionError):
    pass


def wait_until(condition, timeout_s=30.0, what="the condition", interval_s=0.02):
    """Calls condition() until it returns something true, and returns that. Raises WaitTimeout naming WHAT.

    An exception of the condition is not caught: a condition that may fail for a while says so itself.
    """
    end = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise WaitTimeout(f"waited {timeout_s:g} s for {what}, the last answer was {value!r}")
        time.sleep(interval_s)


def utc_today(left_s=60):
    """Today, as the program has it too while the test runs: within LEFT_S before midnight it waits for the next day."""

    def day_that_stays():
        now = datetime.now(UTC)
        return now.date() if (now + timedelta(seconds=left_s)).date() == now.date() else None

    return wait_until(day_that_stays, left_s + 10, "the next day")
