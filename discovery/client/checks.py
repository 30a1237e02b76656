"""Whether what is registered is well: a check that is made again and again.

Owns the counting (so many passes in a row make it healthy, so many failures make it unhealthy), the time between two
checks and the time that one may take. What a check looks at is the caller's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from discovery.errors import ConfigError

Check = Callable[[], Awaitable[bool]]  # True: well; raising is not

log = logging.getLogger("discovery.client")


class Health:
    """The verdict over a row of checks; it begins with `healthy`. One that begins without needs one pass."""

    def __init__(self, rise: int, fall: int, healthy: bool = False) -> None:
        self.healthy = healthy
        self._rise, self._fall = rise, fall
        self._row = 0 if healthy else rise - 1  # checks in a row that spoke against the verdict

    def note(self, passed: bool) -> bool:
        """Whether the verdict is another one now."""
        if passed == self.healthy:
            self._row = 0
            return False
        self._row += 1
        if self._row < (self._fall if self.healthy else self._rise):
            return False
        self.healthy, self._row = passed, 0
        return True


class Checking:
    """`every`: seconds from one check's begin to the next; `timeout`: seconds after which one has failed; `rise`,
    `fall`: checks in a row that turn the verdict, which begins with `healthy`. Raises ConfigError."""

    def __init__(
        self,
        check: Check,
        *,
        every: float = 5.0,
        timeout: float = 2.0,
        rise: int = 2,
        fall: int = 3,
        healthy: bool = False,
    ) -> None:
        for field, value in (("every", every), ("timeout", timeout), ("rise", rise), ("fall", fall)):
            if value <= 0:
                raise ConfigError(f"check: {field} must be above 0, got {value}", field=field)
        self._check = check
        self._every, self._timeout = every, timeout
        self._health = Health(rise, fall, healthy)

    async def run(self, tell: Callable[[bool], None], name: str) -> None:
        """For ever: `tell` is called with each new verdict. `name` is for the log."""
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            reason = await self._failure()
            if self._health.note(reason is None):
                if reason is None:
                    log.info("%s: its check passes", name)
                else:
                    log.warning("%s: its check fails (%s)", name, reason)
                tell(self._health.healthy)
            await asyncio.sleep(max(0.0, self._every - (clock() - began)))

    async def _failure(self) -> str | None:
        """Why the check fails; None: it passes."""
        try:
            async with asyncio.timeout(self._timeout):
                return None if await self._check() else "it says no"
        except TimeoutError:
            return f"no answer within {self._timeout:g} s"
        except Exception as error:  # whatever a check of the caller's raises, the service is not well
            return str(error) or type(error).__name__
