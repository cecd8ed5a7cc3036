"""Running `ductstream run` as a child, the way a user does."""

import json
import os
import subprocess
from pathlib import Path

import yaml

from . import child
from .paths import program

EXIT_DONE, EXIT_FATAL, EXIT_CONFIG, EXIT_DATA, EXIT_RETRY, EXIT_CANCELLED = 0, 1, 2, 3, 4, 130


class Flow:
    """A flow file in a folder of its own, which is also the working folder of its runs.

    folder        where flow.yaml and the outputs of the runs go; made when missing
    source        options of the Postgres source (or of SOURCE_TYPE)
    destinations  list of dicts as in a flow file: name, type, options
    more          further top-level keys
    """

    def __init__(self, folder, name, source, destinations, source_type="postgres", **more):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.path = self.folder / "flow.yaml"
        self.content = {
            "name": name,
            "source": {"type": source_type, "options": source},
            "destinations": destinations,
            **more,
        }
        self.runs = []
        self.write()

    @classmethod
    def to_ducklake(cls, folder, name, dsn, catalog, data_path, source=None, destination=None, **more):
        """The usual case: a Postgres database into one DuckLake. SOURCE and DESTINATION add or replace options."""
        return cls(
            folder,
            name,
            {"dsn": dsn, "slot": name, "publication": name, **(source or {})},
            [
                {
                    "name": "lake",
                    "type": "ducklake",
                    "options": {"catalog": catalog, "data_path": str(data_path), **(destination or {})},
                }
            ],
            **more,
        )

    def write(self):
        """Writes flow.yaml again, after a change of `content`."""
        self.path.write_text(yaml.safe_dump(self.content, sort_keys=False))

    def set_destination(self, **options):
        """Changes options of the (first) destination for the runs that follow."""
        self.content["destinations"][0]["options"].update(options)
        self.write()

    def start(self, *args, env=None, wrapper=()):
        """Starts a run and returns at once. WRAPPER goes before the program, for example ("strace", "-f")."""
        run = Run(self, len(self.runs) + 1, args, env or {}, wrapper)
        self.runs.append(run)
        return run

    def run_until_caught_up(self, *args, timeout_s=120, env=None):
        """Runs with --until-caught-up to its end and expects success."""
        run = self.start("--until-caught-up", *args, env=env)
        run.expect(EXIT_DONE, timeout_s)
        return run

    def close(self):
        """Ends what still runs."""
        for run in self.runs:
            run.kill()


class Run(child.Child):
    """One child; its outputs are kept in run-N.out and run-N.err."""

    what = "the run"

    def __init__(self, flow, number, args, env, wrapper):
        self.flow = flow
        self.out_path = flow.folder / f"run-{number}.out"
        self.err_path = flow.folder / f"run-{number}.err"
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.process = child.popen(
                [*wrapper, program(), "run", flow.path, *args],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=flow.folder,
                env={**os.environ, **env},
            )

    @property
    def stdout(self):
        return self.out_path.read_text(errors="replace")

    def json_lines(self):
        """What --json printed: the objects of stdout, one per line; a last line still being written is left out."""
        return [json.loads(line) for line in self.stdout.splitlines(keepends=True) if line.endswith("\n")]

    def describe(self):
        return f"{super().describe()}\n--- stdout\n{self.stdout[-1000:]}"
