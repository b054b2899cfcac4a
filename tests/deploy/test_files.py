"""The container's files, the unit of systemd and the chart, as far as they can be tried here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from darkroom_server.config import ServerConfig, load_config
from darkroom_server.telemetry.metric_list import METRICS
from deploy.docker.requirements import requirements
from deploy.docker.run_steps import stages

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "docker/Dockerfile").read_text()
HELM = ROOT / ".venv-helm/bin/python"
CHECKS = ROOT / ".venv-deploy/bin"
DASHBOARDS = sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
VALUES = sorted((DEPLOY / "helm/values").glob("*.yaml"))
needs_helm = pytest.mark.skipif(not HELM.exists(), reason="no .venv-helm: make deploy-check")


def test_the_container_runs_as_nobody_special_and_says_how_it_is() -> None:
    last = stages(DOCKERFILE)[-1]
    keywords = {keyword for keyword, _ in last}
    assert {"HEALTHCHECK", "VOLUME", "USER", "ENTRYPOINT"} <= keywords
    (user,) = [rest for keyword, rest in last if keyword == "USER"]
    assert int(user) > 0


def test_what_the_dockerfile_copies_is_there() -> None:
    copied = [
        source
        for keyword, rest in stages(DOCKERFILE)[0]
        if keyword == "COPY"
        for source in rest.split()[:-1]
    ]
    assert "service" in copied
    for source in copied:
        assert (ROOT / source).exists(), source


def test_every_variable_that_the_container_sets_is_a_setting() -> None:
    settings = {f"DARKROOM_{name.upper()}" for name in ServerConfig.model_fields}
    environment = [rest for keyword, rest in stages(DOCKERFILE)[-1] if keyword == "ENV"]
    compose = yaml.safe_load((DEPLOY / "docker/compose.yaml").read_text())
    given = list(compose["services"]["darkroom"]["environment"])
    given += [one.partition("=")[0] for rest in environment for one in rest.split()]
    ours = {name for name in given if name.startswith("DARKROOM_")}
    assert ours
    assert ours <= settings


def test_the_requirements_leave_out_what_comes_by_itself() -> None:
    found = requirements(ROOT / "service/pyproject.toml", ["s3", "otlp"])
    assert not [one for one in found if one.startswith(("torch==", "darkroom"))]
    assert {"s3fs>=2025.3", "opentelemetry-sdk>=1.45,<2"} <= set(found)
    with pytest.raises(KeyError):
        requirements(ROOT / "service/pyproject.toml", ["no-such-extra"])


def test_what_compose_mounts_from_the_checkout_is_there() -> None:
    compose = yaml.safe_load((DEPLOY / "docker/compose.yaml").read_text())
    assert set(compose["services"]) == {"darkroom", "redis", "prometheus", "grafana"}
    mounts = [one for service in compose["services"].values() for one in service.get("volumes", [])]
    sources = [one.split(":")[0] for one in mounts]
    for source in sources:
        if source.startswith("../"):
            assert (DEPLOY / "docker" / source).exists(), source
        elif not source.startswith("./"):
            assert source in compose["volumes"]


def in_checks(program: str, *arguments: str) -> str:
    """What a program prints in the environment of what looks at these files."""
    command = [str(CHECKS / "python"), "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not CHECKS.exists(), reason="no .venv-deploy: make deploy-check")
def test_compose_s_own_specification_takes_the_file(tmp_path: Path) -> None:
    program = "import compose_spec, pathlib, sys\n"
    program += "read = pathlib.Path(sys.argv[1]).read_text()\n"
    program += "found = compose_spec.PyCompose.from_yaml(read)\n"
    program += "found.validate()\n"
    program += "print(*sorted(found.service_names()))"
    text = (DEPLOY / "docker/compose.yaml").read_text()
    assert in_checks(program, str(DEPLOY / "docker/compose.yaml")).split() == [
        *("darkroom", "grafana", "prometheus", "redis")
    ]
    # It is one that refuses.
    (tmp_path / "wrong.yaml").write_text(text.replace("image: redis", "imge: redis"))
    with pytest.raises(AssertionError, match="imge"):
        in_checks(program, str(tmp_path / "wrong.yaml"))


@pytest.mark.skipif(not CHECKS.exists(), reason="no .venv-deploy: make deploy-check")
@pytest.mark.parametrize("page", DASHBOARDS, ids=lambda path: path.stem)
def test_grafana_s_own_classes_read_the_dashboards(page: Path) -> None:
    """And give back every query."""
    program = "import json, sys\n"
    program += "from grafana_foundation_sdk.cog.plugins import register_default_plugins\n"
    program += "from grafana_foundation_sdk.models.dashboard import Dashboard\n"
    program += "register_default_plugins()\n"
    program += "page = Dashboard.from_json(json.load(open(sys.argv[1])))\n"
    program += "queries = [one for panel in page.panels for one in panel.targets]\n"
    program += "print(json.dumps([[type(one).__module__, one.expr] for one in queries]))"
    told = json.loads(in_checks(program, str(page)))
    assert {module.rpartition(".")[2] for module, _ in told} == {"prometheus"}
    panels = json.loads(page.read_text())["panels"]
    wanted = [target["expr"] for panel in panels for target in panel["targets"]]
    assert [query for _, query in told] == wanted


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "systemd/darkroom.service").read_text()
    unit = tmp_path / "darkroom.service"
    unit.write_text(text.replace("/opt/darkroom/bin/darkroom", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert "darkroom.service" not in done.stderr, done.stderr


def rendered(values: Path) -> list[dict[str, Any]]:
    command = [str(HELM), str(DEPLOY / "helm/render.py"), str(values)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


@needs_helm
@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_the_chart_makes_settings_that_the_server_takes(values: Path, tmp_path: Path) -> None:
    objects = {one["kind"]: one for one in rendered(values)}
    text = objects["ConfigMap"]["data"]["darkroom.toml"]
    assert tomllib.loads(text)
    (tmp_path / "darkroom.toml").write_text(text)
    config = load_config({}, file=tmp_path / "darkroom.toml", environment={})
    config.check_exposure()
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    mounted = [one["mountPath"] for one in pod["containers"][0]["volumeMounts"]]
    for path in (config.keys_file, config.tls_certificate, config.tls_key, config.tls_client_ca):
        assert path is None or str(path.parent) in mounted
    assert pod["terminationGracePeriodSeconds"] > config.drain_delay_s + config.exit_timeout_s
    assert json.dumps(pod["securityContext"]).count("true")


@needs_helm
@pytest.mark.skipif(not CHECKS.exists(), reason="no .venv-deploy: make deploy-check")
@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_kubernetes_schemas_take_what_the_chart_makes(values: Path, tmp_path: Path) -> None:
    manifests = tmp_path / "all.yaml"
    manifests.write_text(yaml.safe_dump_all(rendered(values)))
    command = [str(CHECKS / "kubernetes-validate"), "-k", "1.31", "--strict", str(manifests)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("passed") >= 5


@needs_helm
def test_what_scales_asks_for_a_metric_that_there_is() -> None:
    objects = rendered(DEPLOY / "helm/values/s3-autoscaled.yaml")
    (scaled,) = [one for one in objects if one["kind"] == "ScaledObject"]
    (trigger,) = scaled["spec"]["triggers"]
    names = set(re.findall(r"\bdarkroom_\w+", trigger["metadata"]["query"]))
    assert names
    assert names <= {metric.name for metric in METRICS}


@needs_helm
def test_the_chart_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "none.yaml").write_text("{}")
    command = [str(HELM), str(DEPLOY / "helm/render.py"), str(tmp_path / "none.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "repository.url or repository.claim" in done.stderr


@pytest.mark.skipif(not CHECKS.exists(), reason="no .venv-deploy: make deploy-check")
def test_hadolint_finds_nothing() -> None:
    command = [str(CHECKS / "hadolint"), str(DEPLOY / "docker/Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
