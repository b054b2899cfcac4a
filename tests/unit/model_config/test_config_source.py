from __future__ import annotations

import pytest

from darkroom_server.domain.problems import Position
from darkroom_server.model_config.config_source import scan_config

TEXT = """\
# a comment with name: "no"
name: "a\\"b"  # more
limits { min_size_px: 16, max_size_px: 32; }
aliases: ["x", "y"]
instance_group [
  { count: 1 },
  < count: -2 >
]
"""


@pytest.mark.parametrize(
    ("path", "index", "at", "value"),
    [
        pytest.param(("name",), 0, (2, 7), '"a\\"b"', id="escaped-quote"),
        pytest.param(("limits",), 0, (3, 8), None, id="message-without-colon"),
        pytest.param(("limits", "max_size_px"), 0, (3, 40), "32", id="nested"),
        pytest.param(("aliases",), 1, (4, 16), '"y"', id="second-of-a-list"),
        pytest.param(("instance_group",), 1, (7, 3), None, id="second-message-of-a-list"),
        pytest.param(("instance_group", "count"), 1, (7, 12), "-2", id="angle-brackets"),
    ],
)
def test_a_value_is_found_where_it_is_written(
    path: tuple[str, ...], index: int, at: tuple[int, int], value: str | None
) -> None:
    use = scan_config(TEXT).find(*path, index=index)
    assert use is not None
    assert use.value_at == Position(*at)
    assert use.value == value


def test_a_field_that_is_not_written_is_not_found() -> None:
    assert scan_config(TEXT).find("hub") is None
    assert scan_config(TEXT).find("aliases", index=2) is None


def test_a_text_that_stops_making_sense_keeps_the_fields_before() -> None:
    source = scan_config('name: "a"\nlimits { @ }\nlicense: "MIT"')
    assert [use.path for use in source.uses] == [("name",), ("limits",)]


def test_an_excerpt_points_below_the_column_also_after_a_tab() -> None:
    assert scan_config('\tname: "a"').excerpt(Position(1, 8)) == ' name: "a"\n       ^'


def test_an_excerpt_of_a_very_long_line_is_cut_around_the_column() -> None:
    line, caret = scan_config("x" * 500 + "y" + "z" * 500).excerpt(Position(1, 501)).split("\n")
    assert len(line) <= 120
    assert line[caret.index("^")] == "y"
