"""Where images go: a file that the prompt names, or standard output."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Self

import pytest

from darkroom_client import GeneratedImage
from darkroom_server.cli.outputs import StandardOutput
from tests.integration.clients.scripted_server import ScriptedServer
from tests.unit.cli.test_images import GOOD, Darkroom, last_line


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        pytest.param(
            "A red circle, on a blue background", "a-red-circle-on-a-blue-background-7", id="words"
        ),
        pytest.param("café / ../../etc", "cafe-etc-7", id="no-path"),
        pytest.param("猫", "image-7", id="no-ascii"),
        pytest.param(
            "one " + "long " * 30, "one-long-long-long-long-long-long-long-long-long-7", id="long"
        ),
    ],
)
def test_without_a_name_the_file_is_named_by_prompt_and_seed(
    server: ScriptedServer, darkroom: Darkroom, prompt: str, name: str
) -> None:
    server.images.scripts = [GOOD, GOOD]
    for file in (f"{name}.png", f"{name}-2.png"):
        result = darkroom("generate", prompt)
        assert result.stdout.startswith(f"{file}: 2x2, seed 7")
        assert Path(file).read_bytes() == b"picture"
    assert len(list(Path.cwd().iterdir())) == 2


def test_a_file_that_is_there_is_never_lost_without_a_name(
    server: ScriptedServer, darkroom: Darkroom
) -> None:
    server.images.scripts = [GOOD]
    Path("a-cat-7.jpg").write_bytes(b"mine")
    darkroom("generate", "a cat", "--format", "jpeg")
    assert Path("a-cat-7.jpg").read_bytes() == b"mine"
    assert Path("a-cat-7-2.jpg").read_bytes() == b"picture"


def test_a_dash_is_standard_output(server: ScriptedServer, darkroom: Darkroom) -> None:
    server.images.scripts = [GOOD]
    result = darkroom("generate", "a cat", "-o", "-")
    assert result.stdout_bytes == b"picture"
    assert "standard output: 2x2, seed 7" in last_line(result.stderr)
    assert list(Path.cwd().iterdir()) == []


class _LeftReader:
    """Standard output whose reader has gone."""

    @property
    def buffer(self) -> Self:
        return self

    def write(self, content: bytes) -> int:
        raise BrokenPipeError(errno.EPIPE, f"{len(content)} bytes")


def test_a_reader_of_standard_output_that_leaves_is_told_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = GeneratedImage(
        content=b"picture",
        media_type="image/png",
        width_px=2,
        height_px=2,
        seed=7,
        image_index=0,
        sha256="",
    )
    monkeypatch.setattr(sys, "stdout", _LeftReader())
    with pytest.raises(OSError, match="was closed by its reader") as caught:
        StandardOutput().save(image)
    assert caught.value.filename == "standard output"
