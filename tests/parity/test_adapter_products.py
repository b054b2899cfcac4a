"""Products of several images in one call have the bits of each alone, or are not taken."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from darkroom_server.backends.diffusers.adapters.low_rank import LowRank
from darkroom_server.backends.diffusers.adapters.products import Addition, Products, Run

Shapes = tuple[int, int, int, int, int]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def made(
    images: int, rows: int, tokens: int, width: int, rank: int, dtype: torch.dtype = torch.float32
) -> tuple[torch.nn.Linear, torch.Tensor, torch.Tensor, tuple[Addition, ...]]:
    """A layer, its inputs and result, and what each image adds."""
    drawn = torch.Generator().manual_seed(images + tokens + rank)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=drawn).to(dtype)

    layer = torch.nn.Linear(width, width, dtype=dtype)
    pairs = [LowRank(random(rank, width), random(width, rank), 4.0, rank) for _ in range(images)]
    additions = tuple(Addition(pair, 0.3 * (k + 1)) for k, pair in enumerate(pairs))
    inputs = random(images * rows, tokens, width)
    return layer, inputs, layer(inputs), additions


def apart(
    layer: torch.nn.Linear,
    inputs: torch.Tensor,
    result: torch.Tensor,
    additions: tuple[Addition, ...],
) -> torch.Tensor:
    result = result.clone()
    rows = len(inputs) // len(additions)
    for k, (pair, scaling) in enumerate(additions):
        own = slice(k * rows, (k + 1) * rows)
        result[own] = pair.added(layer, inputs[own].clone(), result[own].clone(), scaling)
    return result


def taken(products: Products, *args: object) -> torch.Tensor:
    layer, inputs, result, additions = args
    assert isinstance(layer, torch.nn.Linear)
    assert isinstance(inputs, torch.Tensor)
    assert isinstance(result, torch.Tensor)
    assert isinstance(additions, tuple)
    result = result.clone()
    products.add(layer, inputs, result, Run(len(inputs), additions))
    return result


@torch.inference_mode()
@pytest.mark.parametrize("shapes", [
    (8, 1, 4, 128, 16), (8, 1, 64, 128, 16), (8, 1, 64, 128, 64), (3, 2, 16, 64, 4),
    (2, 1, 77, 64, 3), (5, 2, 1, 320, 8), (8, 1, 64, 32, 1),
])  # fmt: skip
def test_any_shape_has_the_bits_of_each_alone(shapes: Shapes) -> None:
    products = Products()
    subject = made(*shapes)
    wanted = apart(*subject)
    for _ in range(3):
        assert torch.equal(taken(products, *subject), wanted)
    images = shapes[0]
    assert products.single_count >= images  # what it is tried beside
    assert products.single_count + products.batched_count == 3 * images


@torch.inference_mode()
def test_where_one_call_has_other_bits_it_is_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    product = Run.product
    monkeypatch.setattr(Run, "product", lambda self, inputs: product(self, inputs) * (1 + 1e-6))
    products = Products()
    subject = made(8, 1, 64, 128, 16)
    for _ in range(3):
        assert torch.equal(taken(products, *subject), apart(*subject))
    assert products.batched_count == 0


@torch.inference_mode()
@pytest.mark.parametrize(
    ("shapes", "dtype"),
    [
        pytest.param((4, 1, 16, 64, 4), torch.bfloat16, id="bits-cannot-tell"),
        pytest.param((4, 1, 1024, 64, 4), torch.float32, id="large-products"),
        pytest.param((4, 1, 4, 1280, 64), torch.float32, id="large-pairs"),
        pytest.param((1, 2, 16, 64, 4), torch.float32, id="one-image"),
    ],
)
def test_what_gains_nothing_by_it_is_left_as_it_is(shapes: Shapes, dtype: torch.dtype) -> None:
    products = Products()
    subject = made(*shapes, dtype=dtype)
    for _ in range(2):
        assert torch.equal(taken(products, *subject), apart(*subject))
    assert products.batched_count == 0


@torch.inference_mode()
def test_what_adds_nothing_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter's untrained layers are zero: one call and many are equal whatever the kernels."""
    product = Run.product
    monkeypatch.setattr(Run, "product", lambda self, inputs: product(self, inputs) * (1 + 1e-6))
    products = Products()
    layer, inputs, result, additions = made(8, 1, 64, 128, 16)
    silent = tuple(
        one._replace(pair=replace(one.pair, up=torch.zeros_like(one.pair.up))) for one in additions
    )
    for subject in (silent, (*additions[:7], silent[7]), additions, additions):
        given = (layer, inputs, result, subject)
        assert torch.equal(taken(products, *given), apart(*given))
    assert products.batched_count == 0
