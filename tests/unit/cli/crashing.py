"""A repair that takes its process with it on exposure 13, and raises what nobody expects on exposure 14."""

import os
import signal

from streamchar.characterize.repair import Repair


class CrashingRepair(Repair):
    def run(self, exposure, **arguments):
        if exposure.identity.exposure == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        if exposure.identity.exposure == 14:
            raise RuntimeError("a bug")
        return super().run(exposure, **arguments)
