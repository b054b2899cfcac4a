"""What goes into a request message."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from darkroom.v1 import image_pb2
from darkroom_client import InvalidRequest
from darkroom_client.requests import fill_request, generate_request


def test_what_is_not_said_is_not_set() -> None:
    assert [each.name for each, _ in generate_request("a cat").ListFields()] == ["prompt"]


def test_none_is_not_set() -> None:
    options: dict[str, Any] = dict.fromkeys(
        ("negative_prompt", "width", "steps", "seed", "quality", "scheduler")
    )
    assert generate_request("a cat", **options) == generate_request("a cat")


def test_zero_is_set_where_it_has_a_meaning() -> None:
    request = generate_request("a cat", seed=0, guidance_scale=0, width=0, steps=0)
    for field in ("seed", "guidance_scale", "width_px", "step_count"):
        assert request.HasField(field), field


def test_every_option_reaches_its_field() -> None:
    request = generate_request(
        "a cat",
        model="m",
        version="stable",
        negative_prompt="dog",
        width=64,
        height=32,
        steps=5,
        guidance_scale=1.5,
        seed=9,
        count=2,
        scheduler="Euler",
        format="webp",
        quality=80,
        lossless=True,
        embed_metadata=True,
        preview_interval_steps=2,
        preview_max_edge=128,
        priority="high",
        ignore_unsupported=True,
        reject_off_grid_size=True,
        validate_only=True,
    )
    assert (request.model, request.version, request.negative_prompt) == ("m", "stable", "dog")
    assert (request.width_px, request.height_px, request.step_count) == (64, 32, 5)
    assert (request.guidance_scale, request.seed, request.image_count) == (1.5, 9, 2)
    assert request.scheduler == "Euler"
    assert request.output == image_pb2.OutputOptions(
        format=image_pb2.OUTPUT_FORMAT_WEBP, quality=80, lossless=True, embed_metadata=True
    )
    assert (request.preview.interval_step_count, request.preview.max_edge_px) == (2, 128)
    assert request.priority == image_pb2.PRIORITY_HIGH
    policy = request.unsupported_parameter_policy
    assert policy == image_pb2.UNSUPPORTED_PARAMETER_POLICY_IGNORE
    assert request.dimension_policy == image_pb2.DIMENSION_POLICY_REJECT
    assert request.validate_only


@pytest.mark.parametrize(
    ("options", "field"),
    [
        pytest.param({"width": 2**31}, "width_px", id="beyond-32-bits"),
        pytest.param({"seed": 2**63}, "seed", id="beyond-64-bits"),
        pytest.param({"negative_prompt": "\udcff"}, "negative_prompt", id="not-unicode"),
        pytest.param({"count": 0}, "image_count", id="no-images"),
        pytest.param({"format": "gif"}, "format", id="unknown-format"),
        pytest.param({"priority": 3}, "priority", id="unknown-priority"),
    ],
)
def test_what_no_message_can_carry_is_an_invalid_request(
    options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        generate_request("a cat", **options)
    assert [violation.field for violation in caught.value.violations] == [field]


def test_a_value_of_the_wrong_type_names_its_field() -> None:
    options: dict[str, Any] = {"steps": "many"}
    with pytest.raises(TypeError, match="step_count"):
        generate_request("a cat", **options)


def test_an_option_that_does_not_exist_is_a_type_error() -> None:
    options: dict[str, Any] = {"stepps": 4}
    with pytest.raises(TypeError, match="stepps"):
        generate_request("a cat", **options)


def test_an_image_is_a_path_or_bytes_or_an_open_file(tmp_path: Path) -> None:
    path = tmp_path / "in.png"
    path.write_bytes(b"image")
    for source in (path, str(path), b"image", bytearray(b"image"), io.BytesIO(b"image")):
        assert fill_request(source, b"mask", "a star").image.content == b"image"


def test_fill_takes_its_own_options() -> None:
    request = fill_request(
        b"i", b"m", "a star", strength=0.0, preserve_unmasked=True, mask_polarity="black", seed=1
    )
    assert request.mask.content == b"m"
    assert request.HasField("strength")
    assert request.preserve_unmasked
    assert request.mask_polarity == image_pb2.MASK_POLARITY_BLACK_REPAINTS
    assert request.seed == 1


def test_generate_does_not_take_the_options_of_fill() -> None:
    options: dict[str, Any] = {"preserve_unmasked": True}
    with pytest.raises(TypeError, match="preserve_unmasked"):
        generate_request("a cat", **options)


def test_generate_can_begin_with_an_image(tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(b"i")
    request = generate_request(
        "a cat",
        image=tmp_path / "in.png",
        strength=0.5,
        reproducibility="exact",
        feature_cache_threshold=0.5,
    )
    assert (request.image.content, request.strength) == (b"i", 0.5)
    assert request.feature_cache.threshold == 0.5
    assert request.reproducibility == image_pb2.REPRODUCIBILITY_EXACT
    assert not generate_request("a cat").HasField("image")


def test_without_a_mask_none_is_sent() -> None:
    request = fill_request(b"i", None, "a star", mask_polarity="transparent")
    assert not request.HasField("mask")


def test_images_to_go_by_are_read_in_their_order(tmp_path: Path) -> None:
    file = tmp_path / "in.png"
    file.write_bytes(b"file")
    request = generate_request("a cat", reference_images=[file, b"bytes", io.BytesIO(b"open")])
    assert [one.content for one in request.reference_images] == [b"file", b"bytes", b"open"]
    filled = fill_request(b"image", b"mask", "a cat", reference_images=[b"bytes", file])
    assert [one.content for one in filled.reference_images] == [b"bytes", b"file"]


@pytest.mark.parametrize("one", [b"bytes", "in.png", Path("in.png")])
def test_one_image_is_no_list_of_images(one: Any) -> None:
    with pytest.raises(TypeError, match="a list of images"):
        generate_request("a cat", reference_images=one)
