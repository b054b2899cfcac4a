"""Whatever a request says, it is taken or refused in the domain's words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.v1 import image_pb2
from darkroom.v1.image_service_pb2 import FillRequest, GenerateRequest
from darkroom_server.domain.errors import DarkroomError
from darkroom_server.domain.image_size import Size
from darkroom_server.domain.models import ModelInfo
from darkroom_server.requests.resolve import resolve
from darkroom_server.wire.messages import parse_fill, parse_generate
from tests.unit.example_models import FLUX_FILL, FLUX_SCHNELL, SDXL

int32 = st.integers(-(2**31), 2**31 - 1)
#: Values near the limits, where mistakes are, and any others.
sizes = st.one_of(st.integers(0, 1100), int32)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
COMMON = {
    "prompt": texts,
    "negative_prompt": texts,
    "width_px": st.none() | sizes,
    "height_px": st.none() | sizes,
    "step_count": st.none() | st.integers(0, 120) | int32,
    "guidance_scale": st.none() | st.floats(),
    "seed": st.none() | st.integers(-(2**63), 2**63 - 1),
    "image_count": st.integers(0, 5) | int32,
    "scheduler": st.sampled_from(["", "DDIMScheduler"]) | texts,
    "output": st.builds(
        image_pb2.OutputOptions,
        format=st.integers(0, 5),
        quality=st.none() | st.integers(0, 120),
        lossless=st.booleans(),
    ),
    "preview": st.none()
    | st.builds(image_pb2.PreviewOptions, interval_step_count=int32, max_edge_px=st.none() | sizes),
    "priority": st.integers(0, 5),
    "unsupported_parameter_policy": st.integers(0, 3),
    "dimension_policy": st.integers(0, 3),
}
sources = st.none() | st.builds(image_pb2.ImageSource, content=st.binary(max_size=2))
generate_requests = st.builds(GenerateRequest, **COMMON)
fill_requests = st.builds(
    FillRequest,
    **COMMON,
    image=sources,
    mask=sources,
    mask_polarity=st.integers(0, 4),
    strength=st.none() | st.floats(0, 1) | st.floats(),
    preserve_unmasked=st.booleans(),
)
models = st.sampled_from([SDXL, FLUX_FILL, FLUX_SCHNELL])


def assert_runnable(request: GenerateRequest | FillRequest, model: ModelInfo, size: Size) -> None:
    """Resolves the request; if that succeeds, the model can run what came out."""
    try:
        if isinstance(request, FillRequest):
            _, parsed = parse_fill(request)
            resolved = resolve(parsed, model, source=size, choose_seed=lambda _: 0)
        else:
            _, parsed = parse_generate(request)
            resolved = resolve(parsed, model, choose_seed=lambda _: 0)
    except DarkroomError:
        return
    spec, limits = resolved.spec, model.limits
    assert spec.width_px % limits.size_multiple_px == 0
    assert spec.height_px % limits.size_multiple_px == 0
    assert limits.min_size_px <= min(spec.width_px, spec.height_px)
    assert max(spec.width_px, spec.height_px) <= limits.max_size_px
    assert spec.width_px * spec.height_px <= limits.max_pixel_count
    assert 1 <= spec.step_count <= limits.max_step_count
    assert 1 <= len(spec.seeds) <= limits.max_image_count
    assert spec.scheduler in model.schedulers


@pytest.mark.parametrize(
    "requests",
    [pytest.param(generate_requests, id="generate"), pytest.param(fill_requests, id="fill")],
)
@settings(max_examples=300)
@given(st.data())
def test_any_request_is_runnable_or_refused(
    requests: st.SearchStrategy[GenerateRequest | FillRequest], data: st.DataObject
) -> None:
    size = Size(data.draw(st.integers(1, 5000)), data.draw(st.integers(1, 5000)))
    assert_runnable(data.draw(requests), data.draw(models), size)
