"""What a worker reads of adapters' files: hostile ones are refused with the reason, and soon."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from darkroom_server.backends.diffusers.adapters.reading import BadAdapter, read_adapter
from tests.parity.tiny_pipelines import random_sdxl

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
DOWN, UP = f"unet.{LAYER}.lora_A.weight", f"unet.{LAYER}.lora_B.weight"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.set_num_threads(1)
    return random_sdxl(tmp_path_factory.mktemp("tokenizer"))


def pair(pipeline: Any, rank: int = 4) -> dict[str, torch.Tensor]:
    layer = pipeline.unet.get_submodule(LAYER)
    return {DOWN: torch.ones(rank, layer.in_features), UP: torch.ones(layer.out_features, rank)}


def written(changes: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Any, Path], None]:
    def write(pipeline: Any, file: Path) -> None:
        tensors = pair(pipeline)
        changes(tensors)
        save_file(tensors, file)

    return write


def told(**settings: Any) -> Callable[[Any, Path], None]:
    """With settings in the file's metadata, as `save_lora_weights` writes them."""

    def write(pipeline: Any, file: Path) -> None:
        own = {f"unet.{k}": v for k, v in {"r": 4, "lora_alpha": 4, **settings}.items()}
        save_file(pair(pipeline), file, metadata={"lora_adapter_metadata": json.dumps(own)})

    return write


def raw(header: bytes, data: bytes = b"", length: int | None = None) -> Callable[[Any, Path], None]:
    def write(pipeline: Any, file: Path) -> None:
        del pipeline
        file.write_bytes(struct.pack("<Q", length or len(header)) + header + data)

    return write


def cut(pipeline: Any, file: Path) -> None:
    save_file(pair(pipeline), file)
    file.write_bytes(file.read_bytes()[:-8])


def entry(begin: int, end: int) -> str:
    return f'{{"dtype":"F32","shape":[{(end - begin) // 4}],"data_offsets":[{begin},{end}]}}'


OVERLAPPING = f'{{"a":{entry(0, 8)},"b":{entry(4, 12)}}}'.encode()
#: Backtracks for years on names of layers.
ENDLESS = "(([a-z0-9_.]+)+)+!"


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        pytest.param(raw(b"{}", length=10 << 30), "no safetensors file", id="giant-header"),
        pytest.param(raw(b"\x80\x04."), "no safetensors file", id="pickle"),
        pytest.param(raw(b"[" * 50_000), "no safetensors file", id="nested"),
        pytest.param(raw(OVERLAPPING, bytes(12)), "no safetensors file", id="overlapping"),
        pytest.param(cut, "no safetensors file", id="truncated"),
        pytest.param(raw(b"{}"), "holds no tensors", id="empty"),
        pytest.param(
            written(lambda t: t.update({DOWN: t[DOWN] * float("nan")})), "not finite", id="nan"
        ),
        pytest.param(
            written(lambda t: t.update({UP: t[UP][:, :3].contiguous()})), "does not fit", id="ranks"
        ),
        pytest.param(
            written(lambda t: t.update({DOWN: t[DOWN][:, :3].contiguous()})), "does not fit",
            id="base",
        ),
        pytest.param(written(lambda t: t.pop(UP)), "", id="half"),
        pytest.param(
            written(
                lambda t: t.update(
                    {
                        "unet.../../etc.lora_A.weight": t[DOWN].clone(),
                        "unet.../../etc.lora_B.weight": t[UP].clone(),
                    }
                )
            ),
            "",
            id="traversing-name",
        ),
        pytest.param(
            written(
                lambda t: t.update(
                    {
                        f"unet.{ENDLESS}.lora_A.weight": t[DOWN].clone(),
                        f"unet.{ENDLESS}.lora_B.weight": t[UP].clone(),
                    }
                )
            ),
            "",
            id="endless-name",
        ),
        pytest.param(told(rank_pattern={ENDLESS: 4}), "not plainly named", id="endless-pattern"),
        pytest.param(
            told(alpha_pattern={"(a|a)" * 40: 4}), "not plainly named", id="doubling-pattern"
        ),
        pytest.param(
            told(rank_pattern={f"a{k}": 4 for k in range(5000)}), "more than 4096", id="patterns"
        ),
        pytest.param(told(rank_pattern=[1]), "make no sense", id="pattern-list"),
        pytest.param(told(alpha_pattern={LAYER: "much"}), "make no sense", id="alpha-word"),
        pytest.param(told(lora_alpha=float("inf")), "no number", id="infinite-alpha"),
        pytest.param(told(r=0), "settings for another", id="rank-0"),
        pytest.param(told(use_dora=True), "another kind", id="dora"),
    ],
)  # fmt: skip
def test_it_is_refused_with_the_reason(
    pipeline: Any, tmp_path: Path, write: Callable[[Any, Path], None], reason: str
) -> None:
    file = tmp_path / "bad.safetensors"
    write(pipeline, file)
    with pytest.raises(BadAdapter, match=reason):
        read_adapter(file, pipeline, key="bad")


def test_patterns_that_peft_writes_are_read(pipeline: Any, tmp_path: Path) -> None:
    file = tmp_path / "good.safetensors"
    told(alpha_pattern={f"^{LAYER}": 6, "down_blocks.*.to_q": 2, "a|b": 1})(pipeline, file)
    found = read_adapter(file, pipeline, key="good").parts["unet"][LAYER]
    assert (found.rank, found.alpha, found.divisor) == (4, 6, 4)
