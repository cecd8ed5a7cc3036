"""deploy/: units, image, chart and dashboard are what their programs take (issue 5, points 11 and 12)."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lib.paths import CACHE, ROOT

DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "ductstream"


def tool(name):
    """A program of the cache or the system; the test is skipped without it."""
    places = [CACHE / "bin" / name, Path(sys.executable).parent / name]
    found = next((str(path) for path in places if path.exists()), None) or shutil.which(name)
    if not found:
        pytest.skip(f"no {name}: tools/setup --servers fetches it" + (", with DUCT_LONG=1" if name == "helm" else ""))
    return found


# --- systemd


def unit(path):
    """Section -> list of (key, value)."""
    sections, current = {}, None
    for line in path.read_text().splitlines():
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            current.append((key, value))
    return sections


@pytest.mark.parametrize("name, command", [("ductstream.service", "ductstream"), ("ductstream-worker@.service", "ductstream-worker")])
def test_units(name, command, tmp_path):
    path = DEPLOY / "systemd" / name
    sections = unit(path)
    service = dict(sections["Service"])
    assert service["ExecStart"].split()[0] == f"/usr/local/bin/{command}"
    assert service["User"] == "ductstream" and service["StateDirectoryMode"] == "0700" and service["UMask"] == "0077"
    assert service["NoNewPrivileges"] == "yes" and service["ProtectSystem"] == "strict" and service["CapabilityBoundingSet"] == ""
    assert sections["Install"] == [("WantedBy", "multi-user.target")]
    analyze = shutil.which("systemd-analyze")
    if analyze:
        copy = tmp_path / name
        copy.write_text(path.read_text().replace(f"/usr/local/bin/{command}", "/bin/true"))
        done = subprocess.run([analyze, "verify", copy], capture_output=True, text=True)
        complaints = [line for line in done.stderr.splitlines() if name in line]
        assert not complaints, complaints


# --- Dockerfile


def instructions():
    """(instruction, arguments) of the Dockerfile, continuation lines joined."""
    text = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text())
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line and not line.startswith("#")]


def test_dockerfile():
    found = instructions()
    known = {"FROM", "RUN", "COPY", "WORKDIR", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "CMD", "SHELL", "ENV", "ENTRYPOINT"}
    assert {name for name, _ in found} <= known
    stages = [arguments for name, arguments in found if name == "FROM"]
    assert len(stages) == 2 and all(stage.startswith("debian:12") for stage in stages)
    last = found[max(i for i, (name, _) in enumerate(found) if name == "FROM") :]
    user = [arguments for name, arguments in last if name == "USER"]
    assert user == ["10001:10001"], "the last stage ends as a user without rights"
    assert all("USER" != name for name, _ in last[: [n for n, _ in last].index("USER")])
    json.loads(dict(last)["CMD"])
    json.loads(dict(last)["HEALTHCHECK"].split("CMD", 1)[1])
    for name, arguments in found:
        if name == "COPY" and not arguments.startswith("--from"):
            assert all((ROOT / source).exists() for source in arguments.split()[:-1]), arguments
    assert not re.search(r"(?i)password|token=|secret=", " ".join(arguments for _, arguments in found))


def test_the_image_has_every_library():
    """What the programs are linked with comes from packages that the last stage installs."""
    text = (DEPLOY / "Dockerfile").read_text().split("FROM debian:12-slim\n")[1]
    installed = set(re.findall(r"\b(lib[\w.+-]+|zlib1g)\b", text))
    for program in ("ductstream", "ductstream-worker", "ductstream-admin"):
        linked = subprocess.run(["objdump", "-p", ROOT / "bin" / program], capture_output=True, text=True, check=True).stdout
        for library in re.findall(r"NEEDED +(\S+)", linked):
            where = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
            match = re.search(rf"^\t{re.escape(library)} .*=> (\S+)$", where, re.MULTILINE)
            assert match, library
            names = {match[1], os.path.realpath(match[1]), match[1].removeprefix("/usr"), "/usr" + os.path.realpath(match[1])}
            owners = subprocess.run(["dpkg", "-S", *sorted(names)], capture_output=True, text=True).stdout
            packages = {line.split(":")[0] for line in owners.splitlines()}
            if packages & {"libc6", "libgcc-s1", "libstdc++6"}:
                continue
            assert packages & installed, f"{program} needs {library} of {packages}"


def test_dockerfile_by_hadolint():
    done = subprocess.run([tool("hadolint"), "--failure-threshold", "warning", DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# --- the chart

VALUES = {
    "workers": {
        "items": [
            {"name": "shop", "flowId": "shop-1", "storage": {"size": "10Gi", "storageClass": "fast"}, "args": ["-log-level", "debug"]},
            {"name": "copy", "kind": "job", "flowId": "shop-1", "mode": "backfill", "tables": ["public.users", "public.orders"]},
            {
                "name": "nightly",
                "kind": "cronjob",
                "flowId": "shop-2",
                "schedule": "0 3 * * *",
                "maxEmptyReads": 1,
                "extraEnv": [{"name": "DUCTSTREAM_SOURCE_DSN", "valueFrom": {"secretKeyRef": {"name": "shop", "key": "dsn"}}}],
            },
        ]
    }
}


def render(tmp_path, values=None, *options):
    """(exit code, objects, what helm complained about)"""
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(values or {}))
    done = subprocess.run(
        [tool("helm"), "template", "duct", CHART, "-f", path, "--kube-version", "1.31.0", *options],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(tmp_path), "HELM_CACHE_HOME": str(tmp_path), "HELM_CONFIG_HOME": str(tmp_path)},
    )
    objects = [one for one in yaml.safe_load_all(done.stdout) if one] if done.returncode == 0 else []
    return done.returncode, objects, done.stderr


def by_name(objects):
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


def pod(one):
    spec = one["spec"]
    return (spec["jobTemplate"]["spec"] if one["kind"] == "CronJob" else spec)["template"]["spec"]


def test_chart_renders_a_server_and_a_worker_per_flow(tmp_path):
    code, objects, complaints = render(tmp_path, VALUES)
    assert code == 0, complaints
    found = by_name(objects)
    assert set(found) == {
        ("ServiceAccount", "duct-ductstream"),
        ("Deployment", "duct-ductstream"),
        ("Service", "duct-ductstream"),
        ("Deployment", "duct-ductstream-shop"),
        ("PersistentVolumeClaim", "duct-ductstream-shop"),
        ("Job", "duct-ductstream-copy"),
        ("CronJob", "duct-ductstream-nightly"),
    }
    for one in objects:
        if one["kind"] in ("Deployment", "Job", "CronJob"):
            spec = pod(one)
            assert spec["securityContext"]["runAsNonRoot"] and not spec["automountServiceAccountToken"]
            container = spec["containers"][0]
            assert container["securityContext"]["readOnlyRootFilesystem"] and not container["securityContext"]["allowPrivilegeEscalation"]
            secret = [e for e in container["env"] if re.search("DSN|TOKEN$|KEY$", e["name"])]
            assert secret and all("secretKeyRef" in e["valueFrom"] for e in secret), "secrets by reference only"
    server = pod(found["Deployment", "duct-ductstream"])["containers"][0]
    assert server["livenessProbe"]["httpGet"]["path"] == "/healthz" and server["readinessProbe"]["httpGet"]["path"] == "/readyz"
    shop = found["Deployment", "duct-ductstream-shop"]["spec"]
    assert (shop["replicas"], shop["strategy"]["type"]) == (1, "Recreate")
    assert pod(found["Job", "duct-ductstream-copy"])["containers"][0]["args"] == [
        "-flow-id", "shop-1", "-json", "-mode", "backfill", "-tables", "public.users,public.orders",
    ]  # fmt: skip
    assert pod(found["CronJob", "duct-ductstream-nightly"])["restartPolicy"] == "Never"


def test_the_settings_that_the_chart_sets_exist(tmp_path):
    """Every DUCTSTREAM_ variable of the server's container is one of the settings."""
    settings = set(re.findall(r'SET\(\w+, "(\w+)"', (ROOT / "src" / "options" / "service.c").read_text()))
    _, objects, _ = render(tmp_path, {"server": {"tls": {"clientCA": "ca.crt"}}})
    server = pod(by_name(objects)["Deployment", "duct-ductstream"])["containers"][0]
    names = {e["name"].removeprefix("DUCTSTREAM_") for e in server["env"] if e["name"].startswith("DUCTSTREAM_")}
    assert names <= settings and {"TLS_CERT_FILE", "TLS_CLIENT_CA_FILE", "GRPC_LISTEN", "POSTGRES_DSN"} <= names


def test_what_is_set_for_all_is_set_for_all(tmp_path):
    """Flows read the policy for changes of tables and the formats where they run, so a setting of the server alone would not reach them."""
    _, objects, _ = render(tmp_path, VALUES | {"env": {"DUCTSTREAM_DDL_GATE": True}})
    pods = [pod(one)["containers"][0] for one in objects if one["kind"] in ("Deployment", "Job", "CronJob")]
    assert len(pods) == 4 and all({"name": "DUCTSTREAM_DDL_GATE", "value": "true"} in container["env"] for container in pods)


@pytest.mark.parametrize(
    "worker, complaint",
    [
        ({"name": "x", "flowId": "f", "kind": "pod"}, "kind"),
        ({"name": "x"}, "flowId"),
        ({"name": "x", "flowId": "f", "kind": "job"}, "has to end"),
        ({"name": "x", "flowId": "f", "kind": "cronjob", "maxEmptyReads": 1}, "schedule"),
        ({"name": "X_", "flowId": "f"}, "name"),
        ({"name": "x", "flowId": "f", "replicas": 2}, "replicas"),
    ],
)
def test_chart_refuses(tmp_path, worker, complaint):
    code, _, complaints = render(tmp_path, {"workers": {"items": [worker]}})
    assert code != 0 and complaint in complaints


def test_chart_lint(tmp_path):
    done = subprocess.run([tool("helm"), "lint", "--strict", "--kube-version", "1.31.0", CHART], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", ["1.25", "1.31", None])
def test_chart_by_the_schemas_of_kubernetes(tmp_path, version):
    """Strictly: a field that Kubernetes does not know is an error. None: the newest schemas."""
    schemas = pytest.importorskip("kubernetes_validate", reason="no kubernetes-validate: tools/setup --servers fetches it")
    _, objects, complaints = render(tmp_path, VALUES)
    assert len(objects) == 7, complaints
    for one in objects:
        schemas.validate(one, version or schemas.latest_version(), strict=True)
    objects[-1]["spec"]["replicaz"] = 1
    with pytest.raises(schemas.ValidationError):
        schemas.validate(objects[-1], version or schemas.latest_version(), strict=True)


# --- the dashboard


def test_the_dashboard_asks_for_metrics_that_there_are():
    dashboard = json.loads((DEPLOY / "grafana" / "ductstream.json").read_text())
    there = set()
    for path in (ROOT / "src").rglob("*.c"):
        there |= set(re.findall(r'"(ductstream_[a-z_]+)"', path.read_text()))
    asked = set(re.findall(r"\bductstream_\w+", json.dumps(dashboard["templating"])))
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    for panel in panels:
        assert panel["title"] and panel["targets"], panel
        for target in panel["targets"]:
            asked |= set(re.findall(r"\bductstream_\w+", target["expr"]))
            assert target["expr"].count("(") == target["expr"].count(")")
    assert len(panels) >= 8 and len(asked) >= 12
    plain = {name if name in there else re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    assert plain <= there, plain - there
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    places = [(one["gridPos"]["x"], one["gridPos"]["y"]) for one in dashboard["panels"]]
    assert len(set(places)) == len(places)
