"""Versions loaded on request, as a table of scans and loads."""

from __future__ import annotations

from darkroom_server.lifecycle.requested import RequestedModel, request_versions, with_requested
from darkroom_server.repository.scan import RepositoryScan
from tests.unit.repository.builders import Repository


def serving(scan: RepositoryScan) -> dict[str, tuple[int, ...]]:
    return {model.info.name: model.serving for model in scan.models}


def digests(scan: RepositoryScan) -> dict[int, str]:
    return {version.version: version.digest for version in scan.models[0].versions}


def test_rule_3_nothing_serves_that_was_not_told_to(repository: Repository) -> None:
    repository.fake("a", 1, 2)
    repository.fake("b", 1)
    assert serving(with_requested(repository.scan(), {})) == {"a": (), "b": ()}


def test_versions_are_loaded_beside_each_other_or_in_place_of_all(repository: Repository) -> None:
    repository.fake("a", 1, 2, 3)
    model = repository.model("a")
    one = request_versions(None, model, (1,), in_place=False)
    two = request_versions(one, model, (2,), in_place=False)
    assert two.numbers == (2, 1)
    assert request_versions(two, model, model.serving, in_place=True).numbers == (3,)
    assert two.without({2, 7}).numbers == (1,)
    assert serving(with_requested(repository.scan(), {"a": two})) == {"a": (2, 1)}


def test_what_was_loaded_is_what_it_was_then(repository: Repository) -> None:
    repository.fake("a", 1, 2)
    repository.write("a/1/weights", "old")
    before = repository.scan()
    requested = {"a": request_versions(None, before.models[0], (1,), in_place=True)}
    repository.write("a/1/weights", "new")
    repository.fake("a", 3)
    seen = with_requested(repository.scan(), requested)
    assert digests(seen)[1] == digests(before)[1]
    assert set(digests(seen)) == {3, 2, 1}
    # Nor does it leave when it is taken away.
    assert serving(
        with_requested(RepositoryScan(models=(), broken=(), problems=()), requested)
    ) == {"a": (1,)}


def test_a_model_of_which_all_was_unloaded_is_as_the_repository_has_it(
    repository: Repository,
) -> None:
    repository.fake("a", 1)
    requested = {"a": RequestedModel(model=repository.model("a"))}
    repository.fake("a", 2)
    assert digests(with_requested(repository.scan(), requested)).keys() == {1, 2}
