"""What is loaded on request, as a table of looks and loads."""

from __future__ import annotations

from darkroom_server.lifecycle.chosen import Chosen, as_chosen, choose
from darkroom_server.repository.scan import RepositoryScan
from tests.unit.repository.builders import Repository


def serving(scan: RepositoryScan) -> dict[str, tuple[int, ...]]:
    return {model.info.name: model.serving for model in scan.models}


def digests(scan: RepositoryScan) -> dict[int, str]:
    return {version.version: version.digest for version in scan.models[0].versions}


def test_rule_3_nothing_serves_that_was_not_told_to(repository: Repository) -> None:
    repository.fake("a", 1, 2)
    repository.fake("b", 1)
    assert serving(as_chosen(repository.scan(), {})) == {"a": (), "b": ()}


def test_versions_are_loaded_beside_each_other_or_in_place_of_all(repository: Repository) -> None:
    repository.fake("a", 1, 2, 3)
    model = repository.model("a")
    one = choose(None, model, (1,), in_place=False)
    two = choose(one, model, (2,), in_place=False)
    assert two.numbers == (2, 1)
    assert choose(two, model, model.serving, in_place=True).numbers == (3,)
    assert two.without({2, 7}).numbers == (1,)
    assert serving(as_chosen(repository.scan(), {"a": two})) == {"a": (2, 1)}


def test_what_was_loaded_is_what_it_was_then(repository: Repository) -> None:
    repository.fake("a", 1, 2)
    repository.write("a/1/weights", "old")
    before = repository.scan()
    chosen = {"a": choose(None, before.models[0], (1,), in_place=True)}
    repository.write("a/1/weights", "new")
    repository.fake("a", 3)
    seen = as_chosen(repository.scan(), chosen)
    assert digests(seen)[1] == digests(before)[1]
    assert set(digests(seen)) == {3, 2, 1}
    # Nor does it leave when it is taken away.
    assert serving(as_chosen(RepositoryScan(models=(), broken=(), problems=()), chosen)) == {
        "a": (1,)
    }


def test_a_model_of_which_all_was_unloaded_is_as_the_repository_has_it(
    repository: Repository,
) -> None:
    repository.fake("a", 1)
    chosen = {"a": Chosen(model=repository.model("a"))}
    repository.fake("a", 2)
    assert digests(as_chosen(repository.scan(), chosen)).keys() == {1, 2}
