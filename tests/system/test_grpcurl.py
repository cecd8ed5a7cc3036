"""examples/grpc/ with a real grpcurl, by local protos and by reflection; examples/flows/*.json (issue 5, point 1)."""

import json
import os
import subprocess

import pytest

from lib.api import TOKENS, Server, grpcurl, tokens_file
from lib.paths import CACHE, ROOT

EXAMPLES = ROOT / "examples" / "grpc"
FLOWS = sorted((ROOT / "examples" / "flows").glob("*.json"))

pytestmark = pytest.mark.skipif(grpcurl() is None, reason="no grpcurl: tools/setup --servers fetches it")


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    home = tmp_path_factory.mktemp("service")
    with Server(home, TOKENS_FILE=tokens_file(home)) as server:
        yield server.ready()


@pytest.fixture(params=["protos", "reflection"])
def script(service, request):
    """script(name, argument...) -> what grpcurl printed, as JSON; fails when it does."""
    env = {**os.environ, "ADDR": service.address, "TOKEN": TOKENS["admin"], "DUCTSTREAM_CACHE": str(CACHE)}
    if request.param == "reflection":
        env["REFLECTION"] = "1"

    def run(name, *arguments, code=0, **more):
        done = subprocess.run(
            [EXAMPLES / f"{name}.sh", *map(str, arguments)], env=env | more, capture_output=True, text=True, timeout=60, cwd="/"
        )
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout) if code == 0 else done.stderr

    return run


def test_life_of_a_flow(script, tmp_path):
    flow = script("create_flow", ID=f"shop-{os.urandom(4).hex()}", START="false")
    assert flow["name"] == "shop" and flow["state"] == "FLOW_STATE_CREATED"
    assert script("get_flow", flow["id"]) == flow
    assert flow["id"] in [one["id"] for one in script("list_flows", 1000)["flows"]]
    assert script("start_flow", flow["id"])["state"] == "FLOW_STATE_RUNNING"
    assert script("pause_flow", flow["id"])["state"] == "FLOW_STATE_PAUSED"
    assert script("resume_flow", flow["id"])["state"] == "FLOW_STATE_RUNNING"
    changed = tmp_path / "changed.json"
    changed.write_text((ROOT / "examples" / "flows" / "postgres-to-ducklake.json").read_text().replace('"parallelism": 1', '"parallelism": 3'))
    updated = script("update_flow", flow["id"], changed)
    assert (updated["parallelism"], updated["state"]) == (3, "FLOW_STATE_RUNNING"), "the state is preserved"
    assert "FailedPrecondition" in script("run_flow_once", flow["id"], code=64 + 9), "nobody here runs flows"
    assert script("stop_flow", flow["id"])["state"] in ("FLOW_STATE_STOPPED", "FLOW_STATE_STOPPING")
    assert script("delete_flow", flow["id"]) == {"deleted": True}
    assert "NotFound" in script("get_flow", flow["id"], code=64 + 5)


@pytest.mark.parametrize("path", FLOWS, ids=lambda path: path.stem)
def test_every_flow_can_be_created(script, path):
    flow = script("create_flow", path, ID=f"flow-{os.urandom(4).hex()}")
    assert flow["id"].startswith("flow-") and flow["state"] == "FLOW_STATE_RUNNING"
    script("stop_flow", flow["id"])
    script("delete_flow", flow["id"])


def test_other_services(script):
    assert script("list_ddl") == {}
    assert "NotFound" in script("get_checkpoint", "nobody", code=64 + 5)
    assert "NotFound" in script("approve_ddl", 1000, code=64 + 5)


def test_every_script_explains_itself():
    for path in EXAMPLES.glob("*.sh"):
        lines = path.read_text().splitlines()
        if path.name == "common.sh":
            continue
        assert f"examples/grpc/{path.name}" in "\n".join(lines[1:4]), path
        assert os.access(path, os.X_OK), path
        done = subprocess.run(["bash", "-n", path], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_without_a_token(service):
    env = {**os.environ, "ADDR": service.address, "DUCTSTREAM_CACHE": str(CACHE)}
    env.pop("TOKEN", None)
    done = subprocess.run([EXAMPLES / "list_flows.sh"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 64 + 16 and "Unauthenticated" in done.stderr
