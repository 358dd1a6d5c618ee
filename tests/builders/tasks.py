"""Tasks for processes and workers, in a module that is quick to import there."""

import time


def later(number: int, seconds: float) -> int:
    """Slow ones end after quick ones that began later."""
    time.sleep(seconds)
    return number
