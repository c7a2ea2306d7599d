"""What devices held over the last hour."""

import asyncio
import time

from core.memory.history import KEPT_S, History
from core.memory.probe import Probe


async def test_it_looks_until_it_is_stopped_and_keeps_an_hour():
    history = History(Probe(), interval_s=KEPT_S / 3)
    assert history.moments.maxlen == 3
    began = time.time()
    history.start()
    async with asyncio.timeout(10):
        while not history.moments:
            await asyncio.sleep(0)
    history.stop()
    [moment] = history.moments
    assert began <= moment.at <= time.time()
    assert 0 < moment.used["cpu"] <= Probe().host().total
