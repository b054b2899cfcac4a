"""Adapters in a model's folder: what is found of them, and what is refused with which reason."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from darkroom_server.repository.adapters import folders
from darkroom_server.repository.adapters.layers import Found, check_adapter
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.repository.scan import RepositoryScan
from darkroom_server.wire.adapter_messages import adapter_messages

BASE = Path(__file__).parents[4] / "model_repo" / "tiny-sdxl"
LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
WIDTH = 128
CONVOLUTION = "mid_block.resnets.0.conv1"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with nothing in it that takes long to hash twice."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(BASE, folder / "tiny-sdxl", ignore=shutil.ignore_patterns("adapters"))
    return folder


@pytest.fixture
def folder(base: Path) -> Path:
    adapters = base / "tiny-sdxl" / "adapters"
    if adapters.exists():
        shutil.rmtree(adapters)
    (adapters / "ink" / "1").mkdir(parents=True)
    return adapters / "ink"


def scanned(folder: Path) -> RepositoryScan:
    return ModelRepository(folder.parents[2]).scan()


def pair(rank: int = 4, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    down, up = rng.normal(size=(rank, width)), rng.normal(size=(width, rank))
    return down.astype(np.float32), up.astype(np.float32)


def write(folder: Path, **changes: np.ndarray | None) -> None:
    down, up = pair()
    tensors = {f"unet.{LAYER}.lora_A.weight": down, f"unet.{LAYER}.lora_B.weight": up}
    for name, value in changes.items():
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    save_file(tensors, folder / "1" / "ink.safetensors")


DOWN, UP = f"unet.{LAYER}.lora_A.weight", f"unet.{LAYER}.lora_B.weight"


def test_it_is_found_with_what_is_said_of_it(folder: Path) -> None:
    write(folder)
    (folder / "adapter.pbtxt").write_text(
        'aliases: "someone/ink" default_weight: 0.8 trigger_words: "ink" license: "mit" '
        'version_labels { key: "stable" value: 1 }'
    )
    scan = scanned(folder)
    assert not scan.problems
    (found,) = scan.models[0].adapters
    assert (found.name, found.version, found.ranks, found.targets) == ("ink", 1, (4,), ("unet",))
    assert (found.aliases, found.default_weight) == (("someone/ink",), 0.8)
    assert (found.trigger_words, found.license, found.labels) == (("ink",), "mit", ("stable",))
    assert found.path == (folder / "1" / "ink.safetensors").resolve()


def test_every_layout_is_checked_against_the_model(folder: Path) -> None:
    down, up = pair()
    kohya = f"lora_unet_{LAYER.replace('.', '_')}"
    conv_down = np.zeros((2, WIDTH, 3, 3), np.float16)
    layouts = {
        "2": {f"{kohya}.lora_down.weight": down, f"{kohya}.lora_up.weight": up,
              f"{kohya}.alpha": np.float32([4])},
        "3": {f"base_model.model.{LAYER}.lora_A.weight": down,
              f"base_model.model.{LAYER}.lora_B.weight": up},
        "4": {f"unet.{LAYER}.lora.down.weight": down, f"unet.{LAYER}.lora.up.weight": up},
        "5": {f"unet.{CONVOLUTION}.lora_A.weight": conv_down,
              f"unet.{CONVOLUTION}.lora_B.weight": np.zeros((WIDTH, 2, 1, 1), np.float16)},
    }  # fmt: skip
    write(folder)
    for number, tensors in layouts.items():
        (folder / number).mkdir()
        save_file(tensors, folder / number / "ink.safetensors")
    scan = scanned(folder)
    assert not scan.problems
    assert [one.version for one in scan.models[0].adapters] == [1, 2, 3, 4, 5]
    wrong = {name: value[..., :-1] for name, value in layouts["2"].items() if "down" in name}
    save_file({**layouts["2"], **wrong}, folder / "2" / "ink.safetensors")
    scan = scanned(folder)
    assert ["does not fit" in one.message for one in scan.problems] == [True]


def headed(folder: Path) -> None:
    (folder / "1" / "ink.safetensors").write_bytes(struct.pack("<Q", 10 << 30) + b"{}")


def pickled(folder: Path) -> None:
    (folder / "1" / "ink.bin").write_bytes(b"\x80\x04.")


def two(folder: Path) -> None:
    write(folder)
    shutil.copy(folder / "1" / "ink.safetensors", folder / "1" / "more.safetensors")


def linked(folder: Path) -> None:
    outside = folder.parents[2].parent / "outside.safetensors"
    write(folder)
    (folder / "1" / "ink.safetensors").rename(outside)
    (folder / "1" / "ink.safetensors").symlink_to(outside)


def unsettled(folder: Path) -> None:
    write(folder)
    (folder / "adapter.pbtxt").write_text("default_weight: 100")


def misspelt(folder: Path) -> None:
    write(folder)
    (folder / "adapter.pbtxt").write_text('alias: "x"')


def piped(folder: Path) -> None:
    write(folder)
    os.mkfifo(folder / "adapter.pbtxt")


def looped(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(folder)
    (folder.parent / "ink2").mkdir()


def piped_weights(folder: Path) -> None:
    os.mkfifo(folder / "1" / "ink.safetensors")


def cut(folder: Path) -> None:
    write(folder)
    file = folder / "1" / "ink.safetensors"
    file.write_bytes(file.read_bytes()[:-4])


def raw(header: str, data_bytes: int) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        content = struct.pack("<Q", len(header)) + header.encode() + bytes(data_bytes)
        (folder / "1" / "ink.safetensors").write_bytes(content)

    return spoil


def entry(begin: int, end: int) -> str:
    return f'{{"dtype":"F32","shape":[{(end - begin) // 4}],"data_offsets":[{begin},{end}]}}'


def linked_version(folder: Path) -> None:
    write(folder)
    outside = folder.parents[2].parent / "outside-version"
    shutil.rmtree(outside, ignore_errors=True)
    (folder / "1").rename(outside)
    (folder / "1").symlink_to(outside)


def linked_config(folder: Path) -> None:
    write(folder)
    (folder / "adapter.pbtxt").symlink_to("/etc/hostname")


def of(**changes: np.ndarray | None) -> Callable[[Path], None]:
    return lambda folder: write(folder, **changes)


NOT_FINITE = pair()[0]
NOT_FINITE[1, 3] = np.inf


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(headed, "header's length makes no sense", id="giant-header"),
        pytest.param(pickled, "may hold pickled code", id="pickle"),
        pytest.param(cut, "truncated", id="truncated"),
        pytest.param(raw(f'{{"a":{entry(0, 8)},"b":{entry(4, 12)}}}', 12), "overlap", id="overlap"),
        pytest.param(raw(f'{{"a":{entry(0, 8)},"b":{entry(12, 16)}}}', 16), "gap", id="gap"),
        pytest.param(
            raw(f'{{"a":{entry(0, 8)},"a":{entry(0, 8)}}}', 8), "no low-rank pair", id="twice"
        ),
        pytest.param(raw("[" * 50_000, 8), "not a JSON object", id="nested"),
        pytest.param(raw("{}", 0), "holds no tensors", id="empty"),
        pytest.param(linked_version, "leaves the repository", id="linked-version"),
        pytest.param(linked_config, "leaves the repository", id="linked-config"),
        pytest.param(
            of(**{"unet.../../../etc.lora_A.weight": pair()[0]}), "half of", id="traversing-name"
        ),
        pytest.param(two, "has 2 safetensors files", id="two-files"),
        pytest.param(linked, "leaves the repository", id="link"),
        pytest.param(piped, "is not a file", id="pipe-for-a-config"),
        pytest.param(piped_weights, "neither a file nor a folder", id="pipe-for-weights"),
        pytest.param(looped, "has no version", id="loop"),
        pytest.param(unsettled, "default_weight", id="absurd-weight"),
        pytest.param(misspelt, "alias", id="unknown-setting"),
        pytest.param(of(**{DOWN: NOT_FINITE}), "not finite", id="infinite"),
        pytest.param(of(**{DOWN: NOT_FINITE * np.nan}), "not finite", id="nan"),
        pytest.param(of(**{UP: None}), "lacks the other half", id="half"),
        pytest.param(of(**{UP: pair(rank=3)[1]}), "do not fit each other", id="two-ranks"),
        pytest.param(of(**{DOWN: pair(width=7)[0]}), "the model needs", id="other-base"),
        pytest.param(
            of(
                **{
                    "unet.no.layer.lora_A.weight": pair()[0],
                    "unet.no.layer.lora_B.weight": pair()[1],
                }
            ),
            "layers that the model lacks: 'unet.no.layer'",
            id="unknown-layer",
        ),
        pytest.param(of(**{f"unet.{LAYER}.hada_w1_a": pair()[0]}), "LoHa", id="another-kind"),
        pytest.param(of(**{f"unet.{LAYER}.dora_scale": pair()[0]}), "DoRA", id="dora"),
        pytest.param(of(**{f"unet.{LAYER}.weight": pair()[0]}), "no low-rank pair", id="whole"),
        pytest.param(
            of(**{DOWN: np.zeros((4, WIDTH), np.int32)}), "not of floating point", id="integers"
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(
    folder: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(folder)
    scan = scanned(folder)
    assert [model.info.name for model in scan.models] == ["tiny-sdxl"]
    assert scan.models[0].adapters == ()
    assert scan.has_errors
    assert reason in " ".join(str(one) for one in scan.problems)
    assert all(one.path.startswith("tiny-sdxl/adapters/ink") for one in scan.problems)


def test_an_adapter_that_is_refused_spoils_no_other(folder: Path) -> None:
    write(folder)
    (folder.parent / "bad" / "1").mkdir(parents=True)
    pickled(folder.parent / "bad")
    assert [one.name for one in scanned(folder).models[0].adapters] == ["ink"]


def test_thousands_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next look at unchanged files reads none; one that is new is read alone."""
    count = 1000
    write(folder)
    file = folder / "1" / "ink.safetensors"
    for number in range(count - 1):
        version = folder.parent / f"a{number}" / "1"
        version.mkdir(parents=True)
        shutil.copy(file, version)
    read: list[Path] = []

    def counted(path: Path, *args: Any) -> Found:
        read.append(path)
        return check_adapter(path, *args)

    monkeypatch.setattr(folders, "check_adapter", counted)
    repository = ModelRepository(folder.parents[2])
    first = repository.scan()
    assert (len(first.models[0].adapters), len(read)) == (count, count)
    read.clear()
    assert repository.scan().models[0].adapters == first.models[0].adapters
    assert not read
    (folder / "2").mkdir()
    shutil.copy(file, folder / "2")
    assert len(repository.scan().models[0].adapters) == count + 1
    assert len(read) == 1
    listed = sum(len(one.SerializeToString()) for one in adapter_messages(first.models[0].adapters))
    assert listed <= 256 * count  # far below the 4 MiB that callers take at once


def test_names_are_looked_up_in_time_linear_in_layers(folder: Path) -> None:
    """kohya's names are those of layers with underscores: made once, not once a layer."""
    copies: list[int] = []

    class Layers(dict[str, tuple[int, ...]]):
        def items(self) -> Any:
            copies.append(1)
            return super().items()

    down, up = pair()
    names = [f"mid_block.{number}.to_q" for number in range(50)]
    base = {"unet": Layers(dict.fromkeys(names, (WIDTH, WIDTH)))}
    tensors = {}
    for name in names:
        layer = f"lora_unet_{name.replace('.', '_')}"
        tensors |= {f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}
    file = folder / "1" / "ink.safetensors"
    save_file(tensors, file)
    assert check_adapter(file, file.stat().st_size, base).ranks == (4,)
    assert len(copies) == 1
