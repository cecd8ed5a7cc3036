"""Stops a run at a named place (src/base/killpoint.h) until the test lets it go on."""

from pathlib import Path


class Pause:
    """The N-th call of a place, from the start of the run on.

    run = flow.start(env=pause.env); pause.wait(run); …; pause.release()
    """

    def __init__(self, folder, name, n=1):
        self.path = Path(folder) / f"go-{name}-{n}"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.env = {"DUCT_PAUSE_POINT": f"{name}:{n}:{self.path}"}

    @property
    def reached(self):
        return self.path.with_name(self.path.name + ".reached").exists()

    def wait(self, run, timeout_s=60):
        run.wait_for(lambda: self.reached, timeout_s, f"the run to reach {self.path.name}")

    def release(self):
        self.path.touch()


def run_to(flow, folder, name, *args, **env):
    """A run until caught up that has reached the place for the first time: (pause, run)."""
    pause = Pause(folder, name)
    run = flow.start("--until-caught-up", *args, env={**pause.env, **env})
    pause.wait(run)
    return pause, run
