"""Linear layers beside adapters have the bits that peft's frozen weights give them."""

from __future__ import annotations

import copy

import pytest
import torch

from darkroom_server.backends.diffusers.adapters.frozen import Frozen
from darkroom_server.backends.diffusers.networks.present_images import PresentImages

WIDTH, EDGE = 128, 2


def channels_last(rows: int, seed: int) -> torch.Tensor:
    """[rows, places, width] as a UNet's attention gets a picture: not contiguous."""
    picture = torch.randn(rows, WIDTH, EDGE, EDGE, generator=torch.Generator().manual_seed(seed))
    return picture.permute(0, 2, 3, 1).reshape(rows, EDGE * EDGE, WIDTH)


@pytest.fixture
def layer() -> torch.nn.Linear:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return torch.nn.Linear(WIDTH, WIDTH)


@torch.no_grad()
def test_each_image_has_its_own_way(layer: torch.nn.Linear) -> None:
    has_adapters, image_rows = (True, False, True), (2, 2, 2)
    images = [channels_last(rows, seed) for seed, rows in enumerate(image_rows)]
    frozen = copy.deepcopy(layer).requires_grad_(False)
    wanted = [
        (frozen if has else layer)(one) for has, one in zip(has_adapters, images, strict=True)
    ]
    # Else there is nothing to tell apart here.
    if all(torch.equal(layer(one), frozen(one)) for one in images):
        pytest.skip("this torch multiplies both alike on this processor")
    present = PresentImages()
    present.set(image_rows)
    hook = Frozen(present, has_adapters)
    alone = [hook(layer, (one,), layer(one)) for one in present.in_turn(images)]
    # Strides of all are those of each.
    together = torch.cat([one.mT for one in images]).mT
    assert not together.is_contiguous()
    among = hook(layer, (together,), layer(together)).chunk(len(images))
    for has, found, other, one in zip(has_adapters, alone, among, wanted, strict=True):
        assert torch.equal(found, one)
        # Of images without adapters the layer's own rows are another's to prove.
        assert not has or torch.equal(other, one)


@torch.no_grad()
def test_contiguous_inputs_are_left(layer: torch.nn.Linear) -> None:
    present = PresentImages()
    present.set((2,))
    inputs = channels_last(2, 0).contiguous()
    result = layer(inputs)
    before = result.clone()
    assert torch.equal(Frozen(present, (True,))(layer, (inputs,), result), before)
