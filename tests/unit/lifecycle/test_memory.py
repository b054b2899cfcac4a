"""What versions take, what lacks, and who leaves: as tables."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom_server.domain.models import DeviceKind, Dtype, Placement, VersionInfo
from darkroom_server.lifecycle.memory import (
    Device,
    Idle,
    need_of,
    refusal_text,
    shortage,
    victims,
)
from tests.unit.example_models import SDXL
from tests.unit.repository.builders import Repository, safetensors, with_header

CPU, GPU, AUTO = (Placement(kind) for kind in (DeviceKind.CPU, DeviceKind.GPU, DeviceKind.AUTO))
SECOND_GPU = Placement(DeviceKind.GPU, 1)


def version(repository: Repository, dtype: Dtype, *placements: Placement) -> VersionInfo:
    repository.write("m/1/unet/model.safetensors", safetensors(w=1000))
    repository.write("m/1/unet/model.fp16.safetensors", safetensors(w=1000))
    header = b'{"ids":{"dtype":"I64","shape":[10],"data_offsets":[0,80]}}'
    repository.write("m/1/vae/model.safetensors", with_header(header, bytes(80)))
    return VersionInfo(
        model=replace(SDXL, dtype=dtype, placements=placements),
        version=1,
        path=repository.root / "m" / "1",
        digest="",
        weight_bytes=0,
    )


@pytest.mark.parametrize(
    ("dtype", "placements", "gpu_count", "weights"),
    [
        # Whole numbers stay as they are.
        pytest.param(Dtype.FP32, [CPU], 0, {None: 4080}, id="fp32"),
        pytest.param(Dtype.BF16, [CPU], 0, {None: 2080}, id="bf16"),
        pytest.param(Dtype.AUTO, [CPU], 2, {None: 4080}, id="auto-on-the-processor"),
        pytest.param(Dtype.AUTO, [AUTO], 0, {None: 4080}, id="auto-without-a-gpu"),
        pytest.param(Dtype.AUTO, [AUTO], 1, {0: 2080}, id="auto-on-a-gpu"),
        pytest.param(Dtype.FP32, [CPU] * 3, 0, {None: 3 * 4080}, id="three-workers"),
        pytest.param(
            Dtype.FP16, [GPU, SECOND_GPU, SECOND_GPU], 2, {0: 2080, 1: 4160}, id="two-gpus"
        ),
    ],
)
def test_rule_5_weights_count_at_the_dtype_that_they_will_have(
    repository: Repository,
    dtype: Dtype,
    placements: list[Placement],
    gpu_count: int,
    weights: dict[Device, int],
) -> None:
    need = need_of(version(repository, dtype, *placements), gpu_count=gpu_count, overhead_bytes={})
    assert need.weight_bytes == need.total_bytes == weights


def test_every_worker_takes_more_than_its_weights(repository: Repository) -> None:
    overhead: dict[Device, int] = {None: 10, 0: 20, 1: 30}
    found = version(repository, Dtype.FP16, CPU, GPU, SECOND_GPU, SECOND_GPU)
    need = need_of(found, gpu_count=2, overhead_bytes=overhead)
    assert need.total_bytes == {None: 2080 + 10, 0: 2080 + 20, 1: 2 * 2080 + 2 * 30}


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 100, with_header(b"{"), b"\0" * 64])
def test_a_file_that_is_none_counts_with_its_size(repository: Repository, content: bytes) -> None:
    found = version(repository, Dtype.FP32, CPU)
    repository.write("m/1/unet/model.safetensors", content)
    need = need_of(found, gpu_count=0, overhead_bytes={})
    assert need.weight_bytes == {None: len(content) + 80}


def test_the_refusal_has_the_figures(repository: Repository) -> None:
    need = need_of(
        version(repository, Dtype.FP32, CPU), gpu_count=0, overhead_bytes={None: 5 << 30}
    )
    available: dict[Device, int] = {None: 3 << 30}
    lacking = shortage(need.total_bytes, available)
    assert lacking == {None: 4080 + (2 << 30)}
    assert refusal_text("m/1", need, available, lacking) == (
        "m/1 needs 5.0 GiB of memory (weights 0 MiB, the rest 5.0 GiB), and 3.0 GiB are available"
    )


def test_a_device_of_which_nothing_is_known_has_enough() -> None:
    assert shortage({None: 5, 0: 10**12}, {None: 5}) == {}


@pytest.mark.parametrize(
    ("lacking", "idle", "leave"),
    [
        pytest.param({}, [(1, "a", {None: 9})], (), id="enough"),
        pytest.param(
            {None: 5}, [(2, "b", {None: 9}), (1, "a", {None: 9})], ("a",), id="the-longest-unused"
        ),
        pytest.param(
            {None: 10},
            [(2, "b", {None: 9}), (1, "a", {None: 9})],
            ("a", "b"),
            id="as-many-as-needed",
        ),
        pytest.param({None: 20}, [(1, "a", {None: 9}), (2, "b", {None: 9})], (), id="not-enough"),
        pytest.param({0: 5}, [(1, "a", {None: 9}), (2, "b", {0: 9})], ("b",), id="on-that-gpu"),
    ],
)
def test_who_leaves(
    lacking: dict[Device, int],
    idle: list[tuple[float, str, dict[Device, int]]],
    leave: tuple[str, ...],
) -> None:
    assert victims(lacking, [Idle(*one) for one in idle]) == leave


@given(
    lacking=st.integers(1, 50),
    held=st.lists(st.integers(0, 20), max_size=8),
)
def test_nobody_leaves_in_vain(lacking: int, held: list[int]) -> None:
    idle = [Idle(float(place), place, {None: count}) for place, count in enumerate(held)]
    leave = victims({None: lacking}, idle)
    freed = sum(held[place] for place in leave)  # type: ignore[index]
    assert bool(leave) == (sum(held) >= lacking)
    assert not leave or freed >= lacking
