"""Parts of a denoiser that depend on the number of rows are found, and images stay as alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from darkroom_server.backends.base import SharingPlan
from darkroom_server.backends.diffusers.networks import exact
from darkroom_server.backends.diffusers.networks.batched_ways import batched_way
from darkroom_server.backends.diffusers.networks.exact import ExactSharing
from darkroom_server.domain.jobs import ImageSpec, Reproducibility
from tests.parity.shared import shared_exactly
from tests.parity.test_sdxl_steps import image_spec, made_by_stock
from tests.parity.test_shared_steps import build
from tests.parity.tiny_pipelines import random_sdxl

ROWS, WIDTH = 4, 32


class Uneven(torch.nn.Module):
    """What it computes of a row depends on how many rows there are."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))
        self._compute = [inner.forward]

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self._compute[0](rows) * (self.weight + 0.01 * (len(rows) - 1))
        return made


class Layers(torch.nn.Module):
    """Two layers of one shape, of which the second may be uneven; then rows that meet."""

    def __init__(self, *, is_uneven: bool, meet: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first = torch.nn.Linear(WIDTH, WIDTH)
        self.second = torch.nn.Linear(WIDTH, WIDTH)
        if is_uneven:
            self.second.forward = Uneven(self.second).forward  # type: ignore[method-assign]
        self.meeting = Meeting(meet)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        # Tokens, so that the layers themselves do not depend on the number of rows.
        tokens = rows[:, None, :].expand(-1, 64, -1)
        made: torch.Tensor = self.meeting(self.second(self.first(tokens)))
        return made


class Meeting(torch.nn.Module):
    """Computes by itself, and by a part that does nothing."""

    def __init__(self, meet: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self._meet = meet
        self.nothing = torch.nn.Identity()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        met: torch.Tensor = self.nothing(self._meet(tokens))
        return met


class Placed(torch.nn.Module):
    """What it computes of a row depends on how many there are, and on where they lie in memory."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        place = rows.data_ptr() % 64 + rows.stride(0)
        return rows + 0.01 * (len(rows) - 1) + 0.001 * place


class Gate(torch.nn.Module):
    """Has a part compute half of the channels, as gates of feed-forward layers do."""

    def __init__(self, half: int) -> None:
        super().__init__()
        self.part = Placed()
        self._half = half

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        # 40 numbers a row, so that neither a row nor its half is a multiple of 64 bytes.
        wide = torch.cat([rows, rows[:, :8]], dim=1)
        made: torch.Tensor = self.part(wide.chunk(2, dim=1)[self._half])
        return made


def proved(layers: torch.nn.Module, image_rows: tuple[int, ...]) -> tuple[bool, ExactSharing]:
    """Whether a step of images is exact, and what it took; the plan also holds without trying."""
    torch.manual_seed(0)
    sharing = ExactSharing(layers)
    rows = torch.randn(sum(image_rows), WIDTH)
    with torch.inference_mode():
        alone = [layers(one.clone()) for one in rows.split(list(image_rows))]
        *_, answer = sharing.prove("size", image_rows, alone, lambda: layers(rows))
        if answer:
            with sharing.sharing("size", image_rows):
                torch.testing.assert_close(layers(rows), torch.cat(alone), rtol=0, atol=0)
    return answer is True, sharing


def by_image(sharing: ExactSharing) -> SharingPlan:
    """What is computed by image, by size and rows of an image."""
    return {key: names for key, names in sharing.plan().items() if " x" not in key}


def batched(sharing: ExactSharing) -> SharingPlan:
    """What of it needs one call, by size, rows of an image, and images."""
    return {key: names for key, names in sharing.plan().items() if key.endswith("one call")}


@pytest.mark.parametrize("image_rows", [(1, 1), (2, 2), (1, 2, 1)])
def test_a_part_that_depends_on_the_rows_is_computed_by_image(image_rows: tuple[int, ...]) -> None:
    is_equal, sharing = proved(Layers(is_uneven=True, meet=lambda rows: rows), image_rows)
    assert is_equal
    assert by_image(sharing) == {f"size {rows}": ["second"] for rows in image_rows}
    # What its layer's class computes is not what it computes: no other way is tried.
    assert not any(batched(sharing).values())


@pytest.mark.parametrize("half", [0, 1])
def test_rows_of_a_part_of_a_tensor_lie_as_alone(half: int) -> None:
    is_equal, sharing = proved(Gate(half), (1, 1, 1))
    assert (is_equal, by_image(sharing)) == (True, {"size 1": ["part"]})


def test_parts_that_do_not_are_shared() -> None:
    is_equal, sharing = proved(Layers(is_uneven=False, meet=lambda rows: rows), (2, 2))
    assert (is_equal, by_image(sharing)) == (True, {})


def test_a_part_that_differs_among_many_is_computed_together_among_few() -> None:
    """What is computed by image is found for each number of images, and in mixed steps used so."""
    torch.manual_seed(0)
    layers = Layers(is_uneven=False, meet=lambda rows: rows)
    compute, calls = layers.second.forward, []

    def uneven(rows: torch.Tensor) -> torch.Tensor:
        calls.append(len(rows))
        made: torch.Tensor = compute(rows) * (1.01 if len(rows) > 4 else 1.0)
        return made

    layers.second.forward = uneven  # type: ignore[method-assign]
    sharing = ExactSharing(layers)
    with torch.inference_mode():
        for kinds in ((2,) * 2, (2,) * 4, (1, 2, 2), (1, 2, 2, 2, 2)):
            rows = torch.randn(sum(kinds), WIDTH)
            alone = [layers(one.clone()) for one in rows.split(list(kinds))]
            *_, answer = sharing.prove("size", kinds, alone, lambda rows=rows: layers(rows))
            assert answer
            calls.clear()
            with sharing.sharing("size", kinds):
                assert torch.equal(layers(rows), torch.cat(alone))
            assert (
                calls
                == {
                    (2, 2): [4],
                    (2, 2, 2, 2): [2, 2, 2, 2],
                    (1, 2, 2): [1, 4],
                    (1, 2, 2, 2, 2): [1, 2, 2, 2, 2],
                }[kinds]
            )
    plan = sharing.plan()
    assert (plan["size 2 x2 each"], plan["size 2 x4 each"]) == ([], ["second"])


def test_what_differs_between_parts_is_found_in_what_holds_them() -> None:
    uneven = Layers(is_uneven=False, meet=lambda rows: rows * (1 + 0.01 * len(rows)))
    is_equal, sharing = proved(uneven, (2, 2))
    assert (is_equal, by_image(sharing)) == (True, {"size 2": ["meeting"]})


def test_a_denoiser_that_cannot_be_divided_is_not_shared_where_it_differs() -> None:
    torch.manual_seed(0)
    rows = torch.randn(ROWS, WIDTH)
    uneven = Uneven(torch.nn.Identity())
    for image_rows, expected in (((2, 2), False), ((4,), True)):
        alone = [uneven(one) for one in rows.split(list(image_rows))]
        *_, answer = ExactSharing(None).prove("size", image_rows, alone, lambda: uneven(rows))
        assert answer is expected


def test_a_plan_is_taken_over_and_one_of_another_denoiser_is_refused() -> None:
    layers = Layers(is_uneven=True, meet=lambda rows: rows)
    _, sharing = proved(layers, (2, 2))
    again = ExactSharing(layers)
    again.use(sharing.plan())
    assert again.plan() == sharing.plan()
    for other in (
        {"size 2": ["third"]},
        {"size": []},
        {"size 2 x2 one call": ["meeting"]},
        {"size 2 x2": []},
    ):
        with pytest.raises(KeyError):
            ExactSharing(layers).use(other)


def test_images_of_an_uneven_denoiser_are_shared_and_bit_equal_to_stock(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The positive control: one layer of a UNet is made to depend on the rows of the step."""
    torch.set_num_threads(1)
    pipeline: Any = random_sdxl(tmp_path_factory.mktemp("tokenizer"))
    model = build(pipeline)
    layer = pipeline.unet.mid_block.resnets[0].conv1
    monkeypatch.setattr(layer, "forward", Uneven(layer).forward)
    specs: Sequence[ImageSpec] = [
        image_spec(seeds=(seed,), guidance_scale=scale, reproducibility=Reproducibility.EXACT)
        for seed, scale in ((1, 5.0), (2, 5.0), (3, 1.0), (4, 7.0))
    ]
    stock = [made_by_stock(pipeline, spec) for spec in specs]
    for made, wanted in zip(shared_exactly(model, specs, monkeypatch), stock, strict=True):
        np.testing.assert_array_equal(made, wanted)
    apart = {name for names in model.sharing_plan().values() for name in names}
    assert "mid_block.resnets.0.conv1" in apart


class Vectors(torch.nn.Module):
    """A layer over one vector a row, whose kernel depends on the rows, and a small convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.vector = torch.nn.Linear(128, 64)
        self.picture = torch.nn.Conv2d(64, 64, 3, padding=1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.picture(self.vector(rows)[:, :, None, None].expand(-1, -1, 8, 8))
        return made


@pytest.mark.parametrize("image_rows", [(1,) * 4, (2,) * 4, (1, 2, 2, 1, 1, 2)])
def test_parts_computed_by_image_need_one_call_where_that_was_proved_equal(
    image_rows: tuple[int, ...],
) -> None:
    """Whatever of it this processor needs: the bits are those of each alone, block by block."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = Vectors()
    sharing = ExactSharing(layers)
    with torch.inference_mode():
        for kinds in ((1,) * 2, (1,) * 4, (2,) * 2, (2,) * 4, image_rows):
            rows = torch.randn(sum(kinds), 128)
            alone = [layers(one.clone()) for one in rows.split(list(kinds))]
            *_, answer = sharing.prove("size", kinds, alone, lambda rows=rows: layers(rows))
            assert answer
            with sharing.sharing("size", kinds):
                assert torch.equal(layers(rows), torch.cat(alone))
    planned = batched(sharing)
    assert {"size 1 x4 one call", "size 2 x4 one call"} <= planned.keys()
    by_part = {name for names in by_image(sharing).values() for name in names}
    assert {name for names in planned.values() for name in names} <= by_part


@pytest.mark.parametrize("is_off", [False, True])
def test_one_call_that_is_off_by_a_bit_of_one_image_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, *, is_off: bool
) -> None:
    layers = Layers(is_uneven=True, meet=lambda rows: rows)
    compute = layers.second.forward
    calls = []

    def at_once(rows: torch.Tensor, image_count: int) -> torch.Tensor:
        calls.append(image_count)
        made = torch.cat([compute(one) for one in rows.chunk(image_count)])
        if is_off:
            made[-1, -1, -1] = torch.nextafter(made[-1, -1, -1], torch.tensor(torch.inf))
        return made

    monkeypatch.setattr(
        exact, "batched_way", lambda part: at_once if part is layers.second else None
    )
    is_equal, sharing = proved(layers, (2, 2, 2))
    assert is_equal
    assert batched(sharing) == {"size 2 x3 one call": [] if is_off else ["second"]}
    # Once in the proof; after it, in the step that `proved` takes, only where it was equal.
    assert calls == ([3] if is_off else [3, 3])


@pytest.mark.parametrize(
    ("part", "has_one"),
    [
        pytest.param(torch.nn.Linear(8, 8), True, id="linear"),
        pytest.param(torch.nn.Linear(8, 8, bias=False), True, id="linear-without-bias"),
        pytest.param(torch.nn.Conv2d(8, 8, 3, padding=1), True, id="convolution"),
        pytest.param(torch.nn.Linear(8, 8).to(torch.bfloat16), False, id="bf16"),
        pytest.param(torch.nn.Conv2d(8, 8, 3, groups=2), False, id="grouped"),
        pytest.param(torch.nn.Conv2d(8, 8, 3, padding="same"), False, id="padded-to-the-same"),
        pytest.param(torch.nn.LayerNorm(8), False, id="another-class"),
    ],
)
def test_what_is_tried_in_one_call_has_the_shape_of_what_is_replaced(
    part: torch.nn.Module, *, has_one: bool
) -> None:
    way = batched_way(part)
    assert (way is not None) == has_one
    if way is None:
        return
    rows = torch.randn(6, 8, 4, 4) if isinstance(part, torch.nn.Conv2d) else torch.randn(6, 5, 8)
    with torch.inference_mode():
        torch.testing.assert_close(way(rows, 3), part(rows))
    part.forward = lambda given: given  # type: ignore[method-assign]
    assert batched_way(part) is None
