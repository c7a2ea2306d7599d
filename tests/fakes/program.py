"""The whole program with obedient models: `python -m tests.fakes.program --port 0`."""

import sys

import app
from core.core import Core
from core.fleet.launcher import Launcher
from core.settings import Settings


class ObedientCore(Core):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, Launcher("tests.fakes.runtime"))


if __name__ == "__main__":
    app.Core = ObedientCore
    sys.exit(app.main())
