from __future__ import annotations

import errno
import hashlib
import shutil
from pathlib import Path

import pytest

from darkroom_server.domain.jobs import Task
from darkroom_server.domain.problems import Severity
from darkroom_server.lifecycle.resolution import resolve_model
from darkroom_server.repository.repository import ModelRepository
from tests.unit.repository.builders import SDXL_INDEX, Repository, dump


def test_a_model_without_a_config_is_derived_from_its_pipeline(repository: Repository) -> None:
    folder = repository.pipeline("tiny-sdxl", 1, configs={"unet": {"sample_size": 32}})
    model = repository.model("tiny-sdxl")
    assert model.info.name == "tiny-sdxl"
    assert model.info.pipeline_class == "StableDiffusionXLPipeline"
    assert model.info.tasks == set(Task) - {Task.EDIT}
    assert model.info.defaults.width_px == 256
    (version,) = model.versions
    assert (version.version, version.path, version.model) == (1, folder, model.info)
    weights = list(folder.rglob("*.safetensors"))
    assert version.weight_bytes == sum(path.stat().st_size for path in weights) > 0


def test_models_come_by_name_and_versions_highest_first(repository: Repository) -> None:
    repository.fake("b", 2, 10, 1)
    repository.fake("a")
    models = repository.scan().models
    assert [model.info.name for model in models] == ["a", "b"]
    assert [version.version for version in models[1].versions] == [10, 2, 1]


@pytest.mark.parametrize(
    ("policy", "serving"),
    [
        pytest.param("", (10,), id="highest-by-default"),
        pytest.param("version_policy { latest { num_versions: 2 } }", (10, 2), id="latest-two"),
        pytest.param("version_policy { latest { num_versions: 9 } }", (10, 2, 1), id="latest-many"),
        pytest.param("version_policy { all {} }", (10, 2, 1), id="all"),
        pytest.param("version_policy { specific { versions: [1, 2] } }", (2, 1), id="specific"),
    ],
)
def test_the_policy_chooses_what_serves(
    repository: Repository, policy: str, serving: tuple[int, ...]
) -> None:
    repository.fake("m", 1, 2, 10, config=policy)
    assert repository.complaints() == []
    assert repository.model().serving == serving


def test_the_latest_whole_version_serves_while_a_higher_one_is_half_copied(
    repository: Repository,
) -> None:
    repository.pipeline("m", 1)
    repository.pipeline("m", 2, without="unet/")
    model = repository.model()
    assert model.serving == (1,)
    assert [version.version for version in model.versions] == [1]
    assert [problem.path for problem in repository.scan().problems] == ["m/2/unet"]


@pytest.mark.parametrize("name", ["2-tmp", "03", "3.bak", "0", "v1", "\u0663", "-1"])
def test_a_folder_that_is_no_version_is_ignored_with_a_warning(
    repository: Repository, name: str
) -> None:
    repository.fake("m", 1)
    (repository.root / "m" / name).mkdir()
    (complaint,) = repository.complaints()
    assert complaint.startswith(f"m/{name}: warning: is ignored")
    assert repository.model().serving == (1,)


def test_a_number_beyond_what_the_protocol_can_carry_is_ignored(repository: Repository) -> None:
    repository.fake("m", 1, 2**63 - 1, 2**63, 10**60)
    assert [version.version for version in repository.model().versions] == [2**63 - 1, 1]
    assert all("warning: is ignored" in complaint for complaint in repository.complaints())


def test_a_file_named_like_a_version_is_ignored_with_a_warning(repository: Repository) -> None:
    repository.fake("m", 1)
    repository.write("m/2", b"")
    repository.write("m/README.md", b"")
    assert repository.complaints() == ["m/2: warning: is ignored: a version is a folder"]


def test_labels_stay_with_versions_that_are_there(repository: Repository) -> None:
    labels = "".join(
        f'version_labels {{ key: "{label}" value: {at} }}\n'
        for label, at in (("stable", 1), ("lts", 1), ("canary", 2), ("lost", 7))
    )
    repository.fake("m", 1, 2, config=f"version_policy {{ all {{}} }}\n{labels}")
    model = repository.model()
    assert model.info.version_labels == {"canary": 2, "lts": 1, "stable": 1}
    assert [version.labels for version in model.versions] == [("canary",), ("lts", "stable")]
    assert model.default_version == 1


def test_without_a_serving_stable_version_the_highest_is_the_default(
    repository: Repository,
) -> None:
    repository.fake("m", 1, 2, config='version_labels { key: "stable" value: 1 }')
    assert repository.model().default_version == 2


def test_the_model_is_described_by_its_default_version(repository: Repository) -> None:
    repository.pipeline("m", 1, configs={"unet": {"sample_size": 32}})
    repository.pipeline("m", 2, configs={"unet": {"sample_size": 64}})
    stable = 'version_policy { all {} } version_labels { key: "stable" value: 1 }'
    repository.config("m", stable)
    model = repository.model()
    assert model.info.defaults.width_px == 256
    assert [version.model.defaults.width_px for version in model.versions] == [512, 256]


def test_one_broken_model_never_hides_the_others(repository: Repository) -> None:
    repository.fake("good")
    repository.config("broken-config", "nonsense")
    repository.pipeline("broken-config")
    repository.pipeline("broken-files", without="vae/")
    repository.config("no-version", 'license: "MIT"')
    repository.write("not a name/1/x", b"")
    scan = repository.scan()
    assert [model.info.name for model in scan.models] == ["good"]
    assert scan.broken == ("broken-config", "broken-files", "no-version", "not a name")
    errors = {problem.model for problem in scan.problems if problem.severity is Severity.ERROR}
    assert errors == set(scan.broken)


def test_a_folder_that_may_not_be_looked_into_is_a_problem_of_its_model(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.fake("good")
    repository.fake("locked")
    is_dir = Path.is_dir

    def is_dir_unless_locked(path: Path) -> bool:
        # What an account other than root's gets below a folder that has `r` and lacks `x`.
        if path.parent.name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", is_dir_unless_locked)
    scan = repository.scan()
    assert [model.info.name for model in scan.models] == ["good"]
    assert scan.broken == ("locked",)
    assert "cannot be read: Permission denied" in scan.problems[0].message


def test_what_is_no_model_is_left_alone(repository: Repository) -> None:
    repository.write("README.md", b"hello")
    repository.write(".git/config", b"x")
    repository.write("docs/index.md", b"x")
    scan = repository.scan()
    assert (scan.models, scan.broken, scan.has_errors) == ((), (), False)
    assert repository.complaints() == [
        "docs: warning: is ignored: it has neither a config nor a version"
    ]


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_repository_that_cannot_be_read_is_a_problem(repository: Repository, kind: str) -> None:
    root = repository.root / kind
    if kind == "file":
        root.write_text("x")
    scan = ModelRepository(root).scan()
    assert scan.has_errors
    assert "the model repository cannot be read" in scan.problems[0].message
    assert str(root) not in scan.problems[0].message


def test_links_out_of_the_repository_are_refused(repository: Repository, tmp_path: Path) -> None:
    outside = Repository(tmp_path / "outside")
    outside.pipeline("m")
    (repository.root / "model").symlink_to(outside.root / "m")
    repository.fake("version", 1)
    (repository.root / "version" / "2").symlink_to(outside.root / "m/1")
    repository.fake("config", 1)
    (repository.root / "config/config.pbtxt").unlink()
    (repository.root / "config/config.pbtxt").symlink_to(outside.write("c", b""))
    (repository.root / "dangling").symlink_to("nowhere")
    errors = repository.errors()
    assert [error.partition(":")[0] for error in errors] == [
        "config/config.pbtxt",
        "dangling",
        "model",
        "version/2",
    ]
    assert all("leaves the repository" in error for error in errors if "dangling" not in error)
    assert [model.info.name for model in repository.scan().models] == ["version"]
    assert repository.model("version").serving == (1,)


def test_a_version_may_be_a_link_inside_the_repository(repository: Repository) -> None:
    repository.pipeline("store", 1)
    repository.pipeline("m", 1)
    (repository.root / "m/2").symlink_to("../store/1")
    assert repository.complaints() == []
    assert repository.model().serving == (2,)


def digest(repository: Repository) -> str:
    return repository.model().versions[0].digest


def test_the_digest_depends_on_names_and_contents_only(repository: Repository) -> None:
    folder = repository.pipeline("m")
    first = digest(repository)
    shutil.copytree(folder, repository.root / "n/1")
    assert repository.model("n").versions[0].digest == first
    repository.write("m/1/.cache/stamp", b"now")
    assert digest(repository) == first
    repository.write("m/1/notes.txt", b"x")
    assert digest(repository) not in {first, hashlib.sha256().hexdigest()}


def test_a_changed_file_changes_the_digest_of_the_next_scan(repository: Repository) -> None:
    repository.pipeline("m")
    models = ModelRepository(repository.root)
    before = models.scan().models[0].versions[0].digest
    assert models.scan().models[0].versions[0].digest == before
    repository.write("m/1/scheduler/scheduler_config.json", b'{"a": 1}')
    assert models.scan().models[0].versions[0].digest != before


def manifest_of(folder: Path) -> str:
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )


def test_a_manifest_that_matches_changes_nothing(repository: Repository) -> None:
    folder = repository.pipeline("m")
    before = digest(repository)
    repository.write("m/1/MANIFEST.sha256", manifest_of(folder))
    assert repository.complaints() == []
    assert digest(repository) == before


def test_a_manifest_that_does_not_match_keeps_the_version_out(repository: Repository) -> None:
    folder = repository.pipeline("m")
    repository.write("m/1/MANIFEST.sha256", manifest_of(folder))
    repository.write("m/1/model_index.json", dump({**SDXL_INDEX, "extra": True}))
    (error,) = repository.errors()
    assert "m/1/MANIFEST.sha256: error: 'model_index.json' has another SHA-256" in error
    assert repository.scan().models == ()


def test_a_manifest_that_is_no_text_keeps_the_version_out(repository: Repository) -> None:
    repository.pipeline("m")
    repository.write("m/1/MANIFEST.sha256", b"\xff\xfe")
    (error,) = repository.errors()
    assert "MANIFEST.sha256: error: cannot be read" in error


def test_an_alias_belongs_to_one_model(repository: Repository) -> None:
    repository.fake("a", config='aliases: ["shared", "own"] hub { repo_id: "org/one" }')
    repository.fake("b", config='license: "x"\naliases: ["SHARED", "a", "Org/One", "free"]')
    assert repository.errors() == [
        "b/config.pbtxt:3:11: error: alias 'SHARED' belongs to model 'a': choose another",
        "b/config.pbtxt:3:21: error: alias 'a' belongs to model 'a': choose another",
        "b/config.pbtxt:3:26: error: alias 'Org/One' belongs to model 'a': choose another",
    ]
    assert repository.model("a").info.aliases == ("shared", "own")
    assert repository.model("b").info.aliases == ("free",)
    assert repository.model("b").versions[0].model.aliases == ("free",)


def test_two_models_of_one_hub_repository_are_told_apart_with_a_warning(
    repository: Repository,
) -> None:
    for name in ("a", "b"):
        repository.fake(name, config='hub { repo_id: "org/one" }')
    assert repository.complaints() == [
        "b/config.pbtxt:2:16: warning: requests for 'org/one' go to model 'a', which has it too"
    ]


def test_an_alias_of_the_server_is_one_more_name(repository: Repository) -> None:
    repository.fake("m", config='aliases: "own"')
    scan = ModelRepository(repository.root, {"org/Real": "m"}).scan()
    assert scan.models[0].info.aliases == ("own", "org/Real")
    assert resolve_model(scan, "ORG/real").info.name == "m"


def test_a_model_with_the_hub_id_wins_over_an_alias_of_the_server(repository: Repository) -> None:
    repository.fake("a")
    repository.fake("real", config='hub { repo_id: "org/Real" }')
    scan = ModelRepository(repository.root, {"org/Real": "a"}).scan()
    assert resolve_model(scan, "org/Real").info.name == "real"


def test_an_alias_of_a_model_that_is_not_there_is_an_error(repository: Repository) -> None:
    repository.fake("m")
    scan = ModelRepository(repository.root, {"org/Real": "n"}).scan()
    assert scan.has_errors
    assert "org/Real" in scan.problems[-1].message
