"""The files of `deploy/ray` say what Darkroom, Serve and KubeRay read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from darkroom_server.config import ServerConfig

FOLDER = Path(__file__).parents[3] / "deploy" / "ray"
SERVICE, *OTHERS = yaml.safe_load_all((FOLDER / "rayservice.yaml").read_text())
CLUSTER = SERVICE["spec"]["rayClusterConfig"]
GROUPS = CLUSTER["workerGroupSpecs"]


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(yaml.safe_load((FOLDER / "serve.yaml").read_text()), id="serve"),
        pytest.param(yaml.safe_load(SERVICE["spec"]["serveConfigV2"]), id="rayservice"),
    ],
)
def test_the_settings_are_the_servers(config: dict[str, Any]) -> None:
    (application,) = config["applications"]
    read = ServerConfig.model_validate({"on": "ray", **application["args"]})
    assert read.max_replicas >= read.min_replicas
    assert config["proxy_location"] == "Disabled"


def test_the_ray_service_has_the_fields_of_its_definition() -> None:
    assert (SERVICE["apiVersion"], SERVICE["kind"]) == ("ray.io/v1", "RayService")
    assert set(SERVICE["spec"]) == {"serveConfigV2", "rayClusterConfig"}
    assert set(CLUSTER) == {
        *("rayVersion", "authOptions", "enableInTreeAutoscaling"),
        *("headGroupSpec", "workerGroupSpecs"),
    }
    assert set(CLUSTER["headGroupSpec"]) == {"rayStartParams", "template"}
    for group in GROUPS:
        assert set(group) == {
            *("groupName", "replicas", "minReplicas", "maxReplicas"),
            *("rayStartParams", "template"),
        }
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        for container in group["template"]["spec"]["containers"]:
            # KubeRay's own probe of workers waits for a proxy of Serve, of which there is none.
            assert "readinessProbe" in container
    for one in (CLUSTER["headGroupSpec"], *GROUPS):
        assert all(isinstance(value, str) for value in one["rayStartParams"].values())


def test_there_can_be_a_node_for_every_replica() -> None:
    config = yaml.safe_load(SERVICE["spec"]["serveConfigV2"])
    (application,) = config["applications"]
    by_name = {group["groupName"]: group for group in GROUPS}
    assert CLUSTER["enableInTreeAutoscaling"]
    assert by_name["gpu"]["maxReplicas"] >= application["args"]["max_replicas"]
    (front,) = application["deployments"]
    assert by_name["front"]["minReplicas"] >= front["num_replicas"]


def test_the_service_finds_the_fronts() -> None:
    (service,) = (one for one in OTHERS if one["kind"] == "Service")
    labels = GROUPS[0]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
