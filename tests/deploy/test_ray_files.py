"""What KubeRay makes pods of, and what stands beside its service, by Kubernetes's own schemas."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHECK = ROOT / ".venv-deploy/bin/kubernetes-validate"


@pytest.mark.skipif(not CHECK.exists(), reason="no .venv-deploy: make deploy-check")
def test_kubernetes_takes_the_pods_of_every_group_and_what_is_beside_them(tmp_path: Path) -> None:
    service, *others = yaml.safe_load_all((ROOT / "deploy/ray/rayservice.yaml").read_text())
    cluster = service["spec"]["rayClusterConfig"]
    groups = (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    templates = [
        {
            "apiVersion": "v1",
            "kind": "PodTemplate",
            "metadata": {"name": f"group-{number}"},
            "template": group["template"],
        }
        for number, group in enumerate(groups)
    ]
    manifests = tmp_path / "all.yaml"
    manifests.write_text(yaml.safe_dump_all([*templates, *others]))
    done = subprocess.run(
        [str(CHECK), "-k", "1.31", "--strict", str(manifests)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("passed") == len(templates) + len(others)
