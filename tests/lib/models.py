"""A folder of SQL models, a lake that they are built into, and `ductstream model`."""

import json
import os
import textwrap

from .cli import ductstream, lines


class Models:
    """Models in FOLDER for the lake of a LakeHome; the state of the runs is beside them."""

    def __init__(self, folder, home, models=None):
        self.folder = folder / "models" if models is None else models
        self.home = home
        self.env = {
            **os.environ,
            "DUCTSTREAM_STATE_PATH": str(folder / "state.db"),
            "DUCKLAKE_CATALOG": home.catalog,
            "DUCKLAKE_DATA_PATH": str(home.data_path),
            "DUCKDB_TEMP_DIRECTORY": str(folder),
        }
        self.env.pop("DUCTSTREAM_POSTGRES_DSN", None)
        self.result = None

    def write(self, path, text):
        """A file below the folder."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).lstrip("\n"))

    def call(self, verb, *words, **env):
        """(exit code, the last object of stdout, stderr) of `ductstream model VERB FOLDER WORDS`."""
        code, out, err = ductstream("model", verb, self.folder, *words, "--json", env={**self.env, **env}, timeout_s=120)
        return code, lines(out), err

    def run(self, *words, code=0, **env):
        """{"name": state} of the models that were meant; self.result is what the run left."""
        got, out, err = self.call("run", *words, **env)
        assert got == code, (got, err, out)
        end = out[-1] if out else {}
        self.result = {model["name"]: model for model in (end.get("result") or {}).get("models", [])}
        self.end = end
        return {name: model["state"] for name, model in self.result.items()}

    def fails(self, code, *words, verb="run", **env):
        """What it says."""
        got, out, err = self.call(verb, *words, **env)
        assert got == code, (got, err, out)
        return err or json.dumps(out)
