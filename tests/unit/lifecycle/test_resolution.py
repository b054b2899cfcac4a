from __future__ import annotations

from dataclasses import replace

import pytest

from darkroom_server.domain.errors import ModelNotFound, ModelUnavailable
from darkroom_server.domain.jobs import Task
from darkroom_server.domain.models import ModelRef
from darkroom_server.lifecycle.resolution import (
    default_models,
    resolve,
    resolve_model,
    resolve_version,
)
from darkroom_server.repository.scan import RepositoryScan
from tests.unit.repository.builders import FLUX_INDEX, Repository


@pytest.fixture
def scan(repository: Repository) -> RepositoryScan:
    repository.pipeline("a-flux", index=FLUX_INDEX)
    repository.config(
        "a-flux", 'hub { repo_id: "black-forest-labs/FLUX.1-dev" } tasks: TASK_TEXT_TO_IMAGE'
    )
    repository.fake(
        "b-fake",
        *(1, 2, 3),
        config="""
        aliases: ["Short", "org/Fake"]
        version_policy { specific { versions: [1, 2] } }
        version_labels { key: "stable" value: 1 }
        version_labels { key: "canary" value: 2 }
        version_labels { key: "next" value: 3 }
        """,
    )
    repository.fake("c-fake", 4, 5, config="version_policy { all {} }")
    repository.config("d-broken", "nonsense")
    return repository.scan()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        pytest.param("b-fake", "b-fake", id="folder"),
        pytest.param("models/b-fake", "b-fake", id="resource-name"),
        pytest.param("black-forest-labs/FLUX.1-dev", "a-flux", id="hub-id"),
        pytest.param("Black-Forest-Labs/flux.1-DEV", "a-flux", id="hub-id-in-another-case"),
        pytest.param("org/Fake", "b-fake", id="alias"),
        pytest.param("SHORT", "b-fake", id="alias-in-another-case"),
    ],
)
def test_a_model_is_found_by_any_of_its_names(scan: RepositoryScan, name: str, found: str) -> None:
    assert resolve_model(scan, name).info.name == found


@pytest.mark.parametrize(
    ("task", "found"),
    [
        pytest.param(Task.TEXT_TO_IMAGE, "a-flux", id="first-by-name"),
        pytest.param(Task.FILL, "b-fake", id="first-that-does-it"),
        pytest.param(None, "a-flux", id="any-task"),
    ],
)
def test_without_a_name_the_first_model_that_does_the_task_is_meant(
    scan: RepositoryScan, task: Task | None, found: str
) -> None:
    assert resolve_model(scan, "", task).info.name == found


@pytest.mark.parametrize(
    ("task", "found"),
    [
        pytest.param(Task.TEXT_TO_IMAGE, "c-fake", id="does-it"),
        pytest.param(None, "c-fake", id="any-task"),
    ],
)
def test_the_default_model_is_the_one_that_was_named(
    scan: RepositoryScan, task: Task | None, found: str
) -> None:
    assert resolve_model(replace(scan, default_model="c-fake"), "", task).info.name == found


def test_a_default_model_that_is_not_there_is_told(scan: RepositoryScan) -> None:
    with pytest.raises(ModelNotFound, match="gone"):
        resolve_model(replace(scan, default_model="gone"), "")
    with pytest.raises(ModelUnavailable):
        resolve_model(replace(scan, default_model="d-broken"), "")


def test_a_task_that_the_default_model_does_not_do_is_anothers(repository: Repository) -> None:
    repository.fake("a", 1)
    repository.fake("b", 1, config="tasks: TASK_TEXT_TO_IMAGE")
    scan = replace(repository.scan(), default_model="b")
    assert resolve_model(scan, "", Task.FILL).info.name == "a"
    found = default_models(scan)
    assert (found[Task.TEXT_TO_IMAGE], found[Task.FILL]) == ("b", "a")


def test_of_a_default_model_that_is_not_there_no_task_is_the_default(scan: RepositoryScan) -> None:
    assert default_models(replace(scan, default_model="gone")) == {}
    assert default_models(replace(scan, default_model="d-broken")) == {}


def test_a_model_of_which_nothing_serves_is_never_the_default(repository: Repository) -> None:
    repository.fake("a", 1, config="version_policy { specific { versions: 7 } }")
    repository.fake("b", 1)
    assert resolve_model(repository.scan(), "").info.name == "b"


def test_an_unknown_name_gets_the_known_ones(scan: RepositoryScan) -> None:
    with pytest.raises(ModelNotFound, match=r"known models: a-flux, b-fake, c-fake$") as caught:
        resolve_model(scan, "nope")
    assert caught.value.name == "nope"


def test_a_broken_model_is_unavailable_and_not_unknown(scan: RepositoryScan) -> None:
    with pytest.raises(ModelUnavailable, match="'d-broken' cannot be served"):
        resolve_model(scan, "models/d-broken")


def test_an_empty_repository_says_so(repository: Repository) -> None:
    with pytest.raises(ModelNotFound, match="no model that serves"):
        resolve_model(repository.scan(), "", Task.FILL)


@pytest.mark.parametrize(
    ("model", "version", "found"),
    [
        pytest.param("b-fake", "2", 2, id="number"),
        pytest.param("b-fake", "canary", 2, id="label"),
        pytest.param("b-fake", "", 1, id="empty-is-stable"),
        pytest.param("c-fake", "", 5, id="empty-without-stable-is-the-highest"),
    ],
)
def test_a_version_is_a_number_a_label_or_the_default(
    scan: RepositoryScan, model: str, version: str, found: int
) -> None:
    found_model, number = resolve(scan, ModelRef(model, version))
    assert (found_model.info.name, number) == (model, found)


@pytest.mark.parametrize(
    "version",
    [
        pytest.param("9", id="not-there"),
        pytest.param("3", id="not-serving"),
        pytest.param("next", id="label-of-one-not-serving"),
        pytest.param("Stable", id="label-in-another-case"),
        pytest.param("01", id="leading-zero"),
        pytest.param("-1", id="negative"),
        pytest.param("\u0661", id="digit-of-another-script"),
        pytest.param("9" * 10_000, id="endless"),
    ],
)
def test_another_version_gets_the_known_ones(scan: RepositoryScan, version: str) -> None:
    known = r"\(serving: 2, 1; labels: canary, stable\)$"
    with pytest.raises(ModelNotFound, match=known) as caught:
        resolve_version(resolve_model(scan, "b-fake"), version)
    assert len(str(caught.value)) < 300


def test_a_model_of_which_nothing_serves_has_no_default_version(repository: Repository) -> None:
    repository.fake("m", 1, config="version_policy { specific { versions: 7 } }")
    with pytest.raises(ModelUnavailable, match="no version of model 'm' is loaded"):
        resolve_version(repository.model(), "")


@pytest.mark.parametrize(
    ("name", "is_hinted"),
    [
        pytest.param("black-forest-labs/FLUX.1-schnell", True, id="hub-id"),
        pytest.param("nothing", False, id="folder"),
        pytest.param("models/nothing", False, id="resource-name"),
        pytest.param("a/b/c", False, id="path"),
        pytest.param("a/b; rm -rf", False, id="no-id"),
    ],
)
def test_an_unknown_hub_id_is_told_how_to_be_fetched(
    scan: RepositoryScan, name: str, is_hinted: bool
) -> None:
    with pytest.raises(ModelNotFound) as raised:
        resolve_model(scan, name)
    assert (f"`darkroom pull {name}` fetches it" in str(raised.value)) is is_hinted
