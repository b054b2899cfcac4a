"""A compiled network: no shape that was not warmed up is ever compiled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from darkroom_server.backends.diffusers.networks.compiled import CompiledNetwork, reason_against


class Doubling(torch.nn.Module):
    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, *, return_dict: bool
    ) -> tuple[torch.Tensor]:
        assert not return_dict
        return (sample * 2 + timestep[:, None],)


@pytest.fixture(autouse=True)
def without_traces() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def inputs(rows: int, width: int = 3) -> dict[str, torch.Tensor]:
    return {"sample": torch.ones(rows, width), "timestep": torch.tensor(7)}


@pytest.mark.skipif(reason_against(torch.device("cpu")) is not None, reason="no C++ compiler")
def test_only_what_was_warmed_up_is_compiled() -> None:
    module = Doubling()
    network = CompiledNetwork(module, {}, regional=False)
    with torch.inference_mode():
        for rows in (1, 2, 8):
            network(inputs(rows))
        warm = network.compile_counts()
        network.end_warm_up()
        for rows in range(1, 9):
            expected = torch.full((rows, 3), 9.0)
            torch.testing.assert_close(network(inputs(rows)), expected)
        assert network.compile_counts() == warm
        torch.testing.assert_close(network(inputs(2, width=5)), torch.full((2, 5), 9.0))
    after = network.compile_counts()
    assert (warm.graph_count, after.graph_count) == (2, 2)
    assert (after.recompile_count, after.uncompiled_step_count) == (0, 1)
