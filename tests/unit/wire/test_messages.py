"""GenerateRequest and FillRequest: what is taken, what is refused, and which field is blamed."""

from __future__ import annotations

import math

import pytest

from darkroom.v1 import image_pb2
from darkroom.v1.image_service_pb2 import FillRequest, GenerateRequest
from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.domain.jobs import (
    FeatureCache,
    ImageFormat,
    PreviewSpec,
    Priority,
    Reproducibility,
    Task,
)
from darkroom_server.domain.models import ModelRef
from darkroom_server.requests.image_requests import (
    DimensionPolicy,
    FillInput,
    ImageRequest,
    MaskPolarity,
    OutputRequest,
    SourceInput,
    UnsupportedParameterPolicy,
)
from darkroom_server.wire.messages import parse_fill, parse_generate

LONGEST = "é" * 16_384
MAX_SEED = 2**63 - 17


def fill_request(**fields: object) -> FillRequest:
    defaults = {"prompt": "a cat", "image": {"content": b"i"}, "mask": {"content": b"m"}}
    return FillRequest(**(defaults | fields))


def test_unset_stays_unset() -> None:
    ref, request = parse_generate(GenerateRequest(prompt="a cat"))
    assert ref == ModelRef("", "")
    assert request == ImageRequest(task=Task.TEXT_TO_IMAGE, prompt="a cat")


def test_reference_images_make_an_edit_of_it() -> None:
    given = [image_pb2.ImageSource(content=content) for content in (b"a", b"b")]
    _, request = parse_generate(GenerateRequest(prompt="a cat", reference_images=given))
    assert (request.task, request.reference_images) == (Task.EDIT, (b"a", b"b"))


def test_reference_images_alone_have_no_strength() -> None:
    given = [image_pb2.ImageSource(content=b"a")]
    with pytest.raises(InvalidParameter) as caught:
        parse_generate(GenerateRequest(prompt="a cat", reference_images=given, strength=0.5))
    assert caught.value.field == "strength"


def test_reference_images_may_stand_beside_the_one_to_change() -> None:
    image, beside = image_pb2.ImageSource(content=b"i"), [image_pb2.ImageSource(content=b"a")]
    _, request = parse_generate(GenerateRequest(image=image, reference_images=beside))
    assert (request.task, request.reference_images) == (Task.IMAGE_TO_IMAGE, (b"a",))
    _, request = parse_fill(FillRequest(image=image, mask=image, reference_images=beside))
    assert (request.task, request.reference_images) == (Task.FILL, (b"a",))


def test_a_reference_image_without_content_is_named() -> None:
    given = [image_pb2.ImageSource(content=b"a"), image_pb2.ImageSource()]
    with pytest.raises(InvalidParameter) as caught:
        parse_generate(GenerateRequest(prompt="a cat", reference_images=given))
    assert caught.value.field == "reference_images[1].content"


def test_every_field_of_generate_arrives() -> None:
    ref, request = parse_generate(
        GenerateRequest(
            model="models/sdxl",
            version="stable",
            prompt="a cat",
            negative_prompt="a dog",
            width_px=512,
            height_px=256,
            step_count=9,
            guidance_scale=0.0,
            seed=0,
            image_count=3,
            scheduler="DDIMScheduler",
            output=image_pb2.OutputOptions(
                format=image_pb2.OUTPUT_FORMAT_JPEG, quality=80, embed_metadata=True
            ),
            preview=image_pb2.PreviewOptions(interval_step_count=2, max_edge_px=64),
            priority=image_pb2.PRIORITY_LOW,
            unsupported_parameter_policy=image_pb2.UNSUPPORTED_PARAMETER_POLICY_IGNORE,
            dimension_policy=image_pb2.DIMENSION_POLICY_REJECT,
            validate_only=True,
        )
    )
    assert ref == ModelRef("models/sdxl", "stable")
    assert request == ImageRequest(
        task=Task.TEXT_TO_IMAGE,
        prompt="a cat",
        negative_prompt="a dog",
        width_px=512,
        height_px=256,
        step_count=9,
        guidance_scale=0.0,
        seed=0,
        image_count=3,
        scheduler="DDIMScheduler",
        output=OutputRequest(format=ImageFormat.JPEG, quality=80, embed_metadata=True),
        preview=PreviewSpec(interval_step_count=2, max_edge_px=64),
        priority=Priority.LOW,
        unsupported_parameter_policy=UnsupportedParameterPolicy.IGNORE,
        dimension_policy=DimensionPolicy.REJECT,
        validate_only=True,
    )


def test_every_field_of_fill_arrives() -> None:
    _, request = parse_fill(
        fill_request(
            mask_polarity=image_pb2.MASK_POLARITY_BLACK_REPAINTS,
            strength=0.5,
            preserve_unmasked=True,
        )
    )
    assert request.task is Task.FILL
    assert request.fill == FillInput(
        image=b"i",
        mask=b"m",
        mask_polarity=MaskPolarity.BLACK_REPAINTS,
        strength=0.5,
        preserve_unmasked=True,
    )


def test_transparency_may_stand_in_for_a_mask() -> None:
    transparent = image_pb2.MASK_POLARITY_TRANSPARENT_REPAINTS
    request = fill_request(mask=None, mask_polarity=transparent)
    _, parsed = parse_fill(request)
    assert parsed.fill is not None
    assert parsed.fill.mask is None


def test_previews_every_zero_steps_are_no_previews() -> None:
    _, request = parse_generate(GenerateRequest(prompt="a cat", preview={"max_edge_px": 64}))
    assert request.preview is None


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"prompt": LONGEST}, id="longest-prompt"),
        pytest.param({"negative_prompt": LONGEST}, id="longest-negative-prompt"),
        pytest.param({"width_px": 16}, id="narrowest"),
        pytest.param({"width_px": 8192}, id="widest"),
        pytest.param({"height_px": 16}, id="lowest"),
        pytest.param({"height_px": 8192}, id="highest"),
        pytest.param({"step_count": 1}, id="fewest-steps"),
        pytest.param({"step_count": 500}, id="most-steps"),
        pytest.param({"guidance_scale": 0.0}, id="no-guidance"),
        pytest.param({"guidance_scale": 100.0}, id="most-guidance"),
        pytest.param({"seed": 0}, id="least-seed"),
        pytest.param({"seed": MAX_SEED}, id="greatest-seed"),
        pytest.param({"image_count": 0}, id="zero-images-mean-one"),
        pytest.param({"image_count": 16}, id="most-images"),
        pytest.param({"output": {"format": "OUTPUT_FORMAT_JPEG", "quality": 1}}, id="worst-jpeg"),
        pytest.param({"output": {"format": "OUTPUT_FORMAT_WEBP", "quality": 100}}, id="best-webp"),
        pytest.param({"output": {"format": "OUTPUT_FORMAT_WEBP", "lossless": True}}, id="lossless"),
        pytest.param({"preview": {"interval_step_count": 500}}, id="rarest-previews"),
        pytest.param(
            {"preview": {"interval_step_count": 1, "max_edge_px": 16}}, id="smallest-previews"
        ),
        pytest.param(
            {"preview": {"interval_step_count": 1, "max_edge_px": 1024}}, id="largest-previews"
        ),
        pytest.param({"model": "m" * 256}, id="longest-model-name"),
    ],
)
def test_taken(fields: dict[str, object]) -> None:
    parse_generate(GenerateRequest(**({"prompt": "a cat"} | fields)))


@pytest.mark.parametrize(
    ("blamed", "fields"),
    [
        pytest.param("prompt", {"prompt": ""}, id="empty-prompt"),
        pytest.param("prompt", {"prompt": " \n\t\u3000"}, id="blank-prompt"),
        pytest.param("prompt", {"prompt": LONGEST + "a"}, id="prompt-a-byte-too-long"),
        pytest.param(
            "negative_prompt", {"negative_prompt": LONGEST + "a"}, id="negative-prompt-too-long"
        ),
        pytest.param("width_px", {"width_px": 0}, id="width-zero"),
        pytest.param("width_px", {"width_px": -8}, id="width-negative"),
        pytest.param("width_px", {"width_px": 15}, id="width-15"),
        pytest.param("width_px", {"width_px": 8193}, id="width-8193"),
        pytest.param("height_px", {"height_px": 15}, id="height-15"),
        pytest.param("height_px", {"height_px": 8193}, id="height-8193"),
        pytest.param("step_count", {"step_count": 0}, id="no-steps"),
        pytest.param("step_count", {"step_count": 501}, id="501-steps"),
        pytest.param("guidance_scale", {"guidance_scale": -0.1}, id="guidance-negative"),
        pytest.param("guidance_scale", {"guidance_scale": 100.1}, id="guidance-above-100"),
        pytest.param("guidance_scale", {"guidance_scale": math.nan}, id="guidance-nan"),
        pytest.param("guidance_scale", {"guidance_scale": math.inf}, id="guidance-infinite"),
        pytest.param("guidance_scale", {"guidance_scale": -math.inf}, id="guidance-minus-infinite"),
        pytest.param("seed", {"seed": -1}, id="seed-negative"),
        pytest.param("seed", {"seed": MAX_SEED + 1}, id="seed-too-great"),
        pytest.param("image_count", {"image_count": -1}, id="images-negative"),
        pytest.param("image_count", {"image_count": 17}, id="17-images"),
        pytest.param("scheduler", {"scheduler": "s" * 257}, id="scheduler-absurd"),
        pytest.param("model", {"model": "m" * 257}, id="model-absurd"),
        pytest.param("version", {"version": "v" * 257}, id="version-absurd"),
        pytest.param("output.format", {"output": {"format": 9}}, id="unknown-format"),
        pytest.param("output.quality", {"output": {"quality": 90}}, id="quality-of-a-png"),
        pytest.param("output.quality", {"output": {"format": 2, "quality": 0}}, id="quality-0"),
        pytest.param("output.quality", {"output": {"format": 2, "quality": 101}}, id="quality-101"),
        pytest.param(
            "output.quality",
            {"output": {"format": 3, "lossless": True, "quality": 90}},
            id="quality-of-lossless",
        ),
        pytest.param(
            "output.lossless", {"output": {"format": 2, "lossless": True}}, id="lossless-jpeg"
        ),
        pytest.param(
            "preview.interval_step_count",
            {"preview": {"interval_step_count": -1}},
            id="previews-every-minus-1-steps",
        ),
        pytest.param(
            "preview.interval_step_count",
            {"preview": {"interval_step_count": 501}},
            id="previews-every-501-steps",
        ),
        pytest.param(
            "preview.max_edge_px",
            {"preview": {"interval_step_count": 1, "max_edge_px": 15}},
            id="previews-too-small",
        ),
        pytest.param(
            "preview.max_edge_px",
            {"preview": {"interval_step_count": 1, "max_edge_px": 1025}},
            id="previews-too-large",
        ),
        pytest.param("priority", {"priority": 9}, id="unknown-priority"),
        pytest.param("reproducibility", {"reproducibility": 9}, id="unknown-level"),
        *(
            pytest.param(
                "feature_cache.threshold",
                {"feature_cache": {"threshold": threshold}},
                id=f"threshold-{threshold}",
            )
            for threshold in (0.0, 1.1, -0.1, math.nan, math.inf)
        ),
        pytest.param("strength", {"strength": 0.5}, id="strength-without-an-image"),
        pytest.param("image.content", {"image": {"content": b""}}, id="empty-image"),
        pytest.param(
            "strength", {"image": {"content": b"i"}, "strength": 1.1}, id="strength-above-1"
        ),
        pytest.param("dimension_policy", {"dimension_policy": 9}, id="unknown-dimension-policy"),
        pytest.param(
            "unsupported_parameter_policy",
            {"unsupported_parameter_policy": 9},
            id="unknown-parameter-policy",
        ),
    ],
)
def test_refused(blamed: str, fields: dict[str, object]) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_generate(GenerateRequest(**({"prompt": "a cat"} | fields)))
    assert caught.value.field == blamed


@pytest.mark.parametrize(
    ("blamed", "fields"),
    [
        pytest.param("image.content", {"image": None}, id="no-image"),
        pytest.param("image.content", {"image": {"content": b""}}, id="empty-image"),
        pytest.param("mask.content", {"mask": None}, id="no-mask"),
        pytest.param("mask.content", {"mask": {"content": b""}}, id="empty-mask"),
        pytest.param("mask_polarity", {"mask_polarity": 9}, id="unknown-polarity"),
        pytest.param("strength", {"strength": -0.01}, id="strength-negative"),
        pytest.param("strength", {"strength": 1.01}, id="strength-above-1"),
        pytest.param("strength", {"strength": math.nan}, id="strength-nan"),
        pytest.param("seed", {"seed": -1}, id="as-generate"),
    ],
)
def test_refused_of_fill(blamed: str, fields: dict[str, object]) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_fill(fill_request(**fields))
    assert caught.value.field == blamed


@pytest.mark.parametrize("prompt", ["", "  "])
def test_an_image_needs_no_prompt(prompt: str) -> None:
    _, filling = parse_fill(fill_request(prompt=prompt))
    _, beginning = parse_generate(GenerateRequest(prompt=prompt, image={"content": b"i"}))
    assert (filling.prompt, beginning.prompt) == (prompt, prompt)


@pytest.mark.parametrize("asked", [None, True, False])
def test_whether_to_preserve_may_be_left_to_the_model(asked: bool | None) -> None:
    _, request = parse_fill(fill_request(preserve_unmasked=asked))
    assert request.fill is not None
    assert request.fill.preserve_unmasked is asked


def test_generate_with_an_image_begins_with_it() -> None:
    image = {"content": b"i"}
    _, request = parse_generate(GenerateRequest(prompt="a cat", image=image, strength=0.5))
    assert request.task is Task.IMAGE_TO_IMAGE
    assert request.source == SourceInput(image=b"i", strength=0.5)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (image_pb2.REPRODUCIBILITY_UNSPECIFIED, None),
        (image_pb2.REPRODUCIBILITY_EXACT, Reproducibility.EXACT),
    ],
)
def test_the_level_asked_for(
    sent: image_pb2.Reproducibility.ValueType, expected: Reproducibility | None
) -> None:
    _, request = parse_generate(GenerateRequest(prompt="a cat", reproducibility=sent))
    assert request.reproducibility is expected


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_strength_reaches_both_ends(strength: float) -> None:
    _, request = parse_fill(fill_request(strength=strength))
    assert request.fill is not None
    assert request.fill.strength == strength


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"feature_cache": {}}, FeatureCache(threshold=0.1), id="default"),
        pytest.param(
            {"feature_cache": {"threshold": 0.2}}, FeatureCache(threshold=0.2), id="threshold"
        ),
    ],
)
def test_the_feature_cache_asked_for(
    sent: dict[str, object], expected: FeatureCache | None
) -> None:
    _, request = parse_generate(GenerateRequest(prompt="a cat", **sent))
    assert request.feature_cache == expected
    _, request = parse_fill(fill_request(**sent))
    assert request.feature_cache == expected


@pytest.mark.parametrize(("field", "most"), [("reference_images", 10), ("adapters", 8)])
def test_entries_are_counted_before_any_is_read(field: str, most: int) -> None:
    request = GenerateRequest(prompt="a cat")
    for _ in range(most + 1):
        getattr(request, field).add()
    with pytest.raises(InvalidParameter, match=f"has {most + 1} entries") as caught:
        parse_generate(request)
    assert caught.value.field == field
