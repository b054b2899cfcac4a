from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from setup import release


@pytest.mark.parametrize("name", list(release.SOURCES))
def test_what_is_packed_asks_an_index_for_nothing_but_the_client(name: str, tmp_path: Path) -> None:
    source = release.staged(name, tmp_path)
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    ours = [one for one in project["dependencies"] if one.startswith("darkroom-")]
    if name == "darkroom-client":
        assert ours == []
        assert (source / "darkroom/v1/image_service_pb2.py").is_file()
        assert extras["connect"]
    else:
        assert ours == [f"darkroom-client[connect]=={project['version']}"]
    assert (source / "LICENSE").is_file()


def test_both_have_one_version(tmp_path: Path) -> None:
    versions = {
        tomllib.loads((release.staged(name, tmp_path) / "pyproject.toml").read_text())["project"][
            "version"
        ]
        for name in release.SOURCES
    }
    assert len(versions) == 1


def test_the_bill_of_materials_names_every_package_once() -> None:
    found = release.bill_of_materials("1.2.3")
    lines = (release.ROOT / "constraints.txt").read_text().splitlines()
    named = [line for line in lines if "==" in line and not line.startswith("#")]
    urls = [one["purl"] for one in found["components"]]
    assert len(urls) == len(set(urls))
    assert len([url for url in urls if url.startswith("pkg:pypi/")]) == len(named)
    assert "pkg:pypi/opentelemetry-sdk@1.45.2" in urls
    scopes = {one["name"]: one["scope"] for one in found["components"]}
    assert (scopes["grpcio"], scopes["mypy"]) == ("required", "optional")
    assert {
        "pkg:npm/%40bufbuild/protobuf@2.17.0",
        "pkg:golang/google.golang.org/grpc@v1.33.3",
    } <= set(urls)
    assert "typescript" not in scopes


def test_provenance_has_the_sum_of_each_file(tmp_path: Path) -> None:
    file = tmp_path / "a.whl"
    file.write_bytes(b"x")
    (subject,) = release.provenance([file])["subject"]
    assert subject["name"] == "a.whl"
    assert subject["digest"]["sha256"].startswith("2d711642b726b044")
