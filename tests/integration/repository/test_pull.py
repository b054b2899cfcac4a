"""`darkroom pull` against a hub on loopback."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from darkroom_server.repository.hub import HubError
from darkroom_server.repository.pull import check_room
from darkroom_server.repository.repository import ModelRepository
from tests.integration.repository.hub_server import COMMIT, Hub, serving_hub
from tests.unit.repository.builders import FLUX_INDEX, HIDREAM_INDEX, SDXL_INDEX, pipeline_files

REPO = "Some-Lab/Tiny.XL"
UNET = "unet/diffusion_pytorch_model.safetensors"
WEIGHT_BYTES = 24_000_000


def weights(byte_count: int) -> bytes:
    """A safetensors file of zeros."""
    tensor = {"dtype": "U8", "shape": [byte_count], "data_offsets": [0, byte_count]}
    header = json.dumps({"w": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(byte_count)


def contents() -> dict[str, bytes]:
    files = pipeline_files(SDXL_INDEX, None)
    found = {n: c.encode() if isinstance(c, str) else c for n, c in files.items()}
    return found | {UNET: weights(WEIGHT_BYTES)}


@pytest.fixture
def hub() -> Iterator[Hub]:
    files = contents()
    files |= {
        "README.md": b"# A model",
        "unet/diffusion_pytorch_model.fp16.safetensors": weights(8),
        "unet/diffusion_pytorch_model.bin": b"a pickle",
        "../escape.json": b"{}",
        "unet/../../escape.json": b"{}",
    }
    with serving_hub(Hub({REPO: files})) as running:
        yield running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


def pull(hub: Hub, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if "HF_" not in name}
    environment |= {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(root.parent / "hub-home"),
        "HF_HUB_DISABLE_XET": "1",
    }
    command = [str(Path(sys.executable).with_name("darkroom")), "pull", *(arguments or (REPO,))]
    return subprocess.run(
        [*command, "--model-repository", str(root)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_pulled_model_is_whole_checked_and_known_by_its_hub_id(hub: Hub, root: Path) -> None:
    done = pull(hub, root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith("tiny.xl/1")
    scan = ModelRepository(root).scan()
    assert not scan.has_errors
    [model] = scan.models
    assert (model.info.name, model.info.hub_id, model.serving) == ("tiny.xl", REPO, (1,))
    version = root / "tiny.xl" / "1"
    names = {str(path.relative_to(version)) for path in version.rglob("*") if path.is_file()}
    assert names == {*contents(), "MANIFEST.sha256"}
    assert COMMIT in (root / "tiny.xl" / "config.pbtxt").read_text()
    assert list((root / ".pull").iterdir()) == []
    assert not list(root.parent.rglob("escape.json"))


def test_the_same_revision_is_not_stored_twice_and_another_is_the_next_version(
    hub: Hub, root: Path
) -> None:
    pull(hub, root)
    (root / "tiny.xl" / "config.pbtxt").write_text("max_batch_size: 3\n")
    again = pull(hub, root)
    assert "was there already" in again.stdout
    hub.files[REPO][UNET] = weights(16)
    newer = pull(hub, root)
    assert newer.returncode == 0, newer.stderr
    versions = [path.name for path in sorted((root / "tiny.xl").glob("[0-9]*"))]
    assert versions == ["1", "2"]
    assert (root / "tiny.xl" / "config.pbtxt").read_text() == "max_batch_size: 3\n"


def test_a_variant_gets_the_names_that_weights_have_by_default(hub: Hub, root: Path) -> None:
    files = hub.files[REPO]
    shard = "text_encoder/model.fp16-00001-of-00001.safetensors"
    files[shard] = weights(32)
    files["text_encoder/model.safetensors.index.fp16.json"] = json.dumps(
        {"weight_map": {"w": shard.partition("/")[2]}}
    ).encode()
    done = pull(hub, root, REPO, "--variant", "fp16")
    assert done.returncode == 0, done.stderr
    version = root / "tiny.xl" / "1"
    assert (version / UNET).read_bytes() == weights(8)
    assert (version / shard).read_bytes() == weights(32)
    assert (version / "text_encoder/model.safetensors.index.json").exists()
    assert not list(version.rglob("*.index.fp16.json"))
    # The VAE has no such variant.
    vae = "vae/diffusion_pytorch_model.safetensors"
    assert (version / vae).read_bytes() == files[vae]
    assert hub.sent_bytes.get(UNET, 0) == 0
    assert not ModelRepository(root).scan().has_errors


FLUX = "black-forest-labs/FLUX.1-schnell"


def test_a_model_of_the_catalogue_gets_its_config(hub: Hub, root: Path) -> None:
    made = pipeline_files(FLUX_INDEX, {"transformer": {"guidance_embeds": False}})
    hub.files[FLUX] = made
    done = pull(hub, root, FLUX)
    assert done.returncode == 0, done.stderr
    again = pull(hub, root, FLUX, "--as", "second")
    assert again.returncode == 0, again.stderr
    scan = ModelRepository(root).scan()
    assert not scan.has_errors
    first, second = scan.models
    assert (first.info.name, first.info.license) == ("flux.1-schnell", "Apache-2.0")
    assert "black-forest-labs/flux-schnell" in first.info.aliases
    # Which of the two is meant would be unclear.
    assert second.info.aliases == ()


HIDREAM = "HiDream-ai/HiDream-I1-Fast"
LLAMA = "Some-Lab/Llama"


def test_parts_that_are_not_published_with_a_model_come_from_another(hub: Hub, root: Path) -> None:
    tokenizer = {"tokenizer_4": ["transformers", "PreTrainedTokenizerFast"]}
    made = pipeline_files(HIDREAM_INDEX | tokenizer)
    hub.files[HIDREAM] = {
        name: content
        for name, content in made.items()
        if not name.startswith(("text_encoder_4/", "tokenizer_4/"))
    }
    hub.files[LLAMA] = {
        "config.json": b'{"architectures": ["LlamaForCausalLM"]}',
        "generation_config.json": b"{}",
        "model.safetensors": weights(16),
        "tokenizer.json": b"{}",
        "tokenizer_config.json": b'{"tokenizer_class": "PreTrainedTokenizerFast"}',
        "original/consolidated.pth": b"a pickle",
    }
    told = pull(hub, root, HIDREAM)
    assert told.returncode == 1
    assert "--part text_encoder_4=REPO" in told.stderr
    assert not hub.sent_bytes.get("transformer/diffusion_pytorch_model.safetensors")
    parts = ("--part", f"text_encoder_4={LLAMA}", "--part", f"tokenizer_4={LLAMA}")
    done = pull(hub, root, HIDREAM, *parts)
    assert done.returncode == 0, done.stderr
    assert not ModelRepository(root).scan().has_errors
    version = root / "hidream-i1-fast" / "1"
    index = json.loads((version / "model_index.json").read_text())
    assert index["text_encoder_4"] == ["transformers", "LlamaForCausalLM"]
    assert (version / "text_encoder_4/model.safetensors").read_bytes() == weights(16)
    assert (version / "tokenizer_4/tokenizer.json").exists()
    assert not list(version.rglob("*.pth"))


def test_the_catalogue_is_shown_without_a_hub(root: Path) -> None:
    done = pull(Hub({}, address="http://127.0.0.1:9"), root, "--list")
    assert done.returncode == 0, done.stderr
    assert "black-forest-labs/FLUX.1-schnell" in done.stdout


def test_a_download_that_breaks_off_goes_on_where_it_was(hub: Hub, root: Path) -> None:
    hub.cut_after[UNET] = 15_000_000
    done = pull(hub, root)
    if done.returncode:
        done = pull(hub, root)
    assert done.returncode == 0, done.stderr
    assert (root / "tiny.xl" / "1" / UNET).read_bytes() == hub.files[REPO][UNET]
    # At most a chunk of 10 MB is fetched twice; from the start it would have been 39 MB.
    assert hub.sent_bytes[UNET] < WEIGHT_BYTES + 12_000_000


def test_what_an_interrupted_pull_left_needs_no_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "half").write_bytes(bytes(20))
    check_room(tmp_path, 50)
    with pytest.raises(HubError, match="are needed"):
        check_room(tmp_path, 51)


def test_a_name_that_no_model_can_have_is_refused_before_anything_is_fetched(
    hub: Hub, root: Path
) -> None:
    done = pull(hub, root, REPO, "--as", "my model")
    assert done.returncode == 2
    assert "is no name for a model" in done.stderr
    assert not hub.sent_bytes


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        pytest.param("gated", (REPO,), "accept its licence", id="licence"),
        pytest.param("", ("Some-Lab/Nothing",), "no model", id="no-repository"),
        pytest.param("", (REPO, "--revision", "v9"), "no revision", id="no-revision"),
        pytest.param("pickles", (REPO,), "pickles", id="pickle-only"),
        pytest.param("lora", (REPO,), "not a diffusers pipeline", id="no-pipeline"),
        pytest.param("truncated", (REPO,), "truncated", id="broken-weights"),
        pytest.param("", ("not an id",), "not the id", id="no-id"),
        pytest.param("", (REPO, "--variant", "int4"), "no variant 'int4'", id="no-variant"),
        pytest.param("", (REPO, "--part", "vae=Some-Lab/None"), "no model", id="no-part"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line_and_leaves_no_version(
    hub: Hub, root: Path, change: str, arguments: tuple[str, ...], message: str
) -> None:
    files = hub.files[REPO]
    match change:
        case "gated":
            hub.gated.add(REPO)
        case "pickles":
            del files[UNET]
        case "lora":
            del files["model_index.json"]
        case "truncated":
            files[UNET] = files[UNET][:-5]
    done = pull(hub, root, *arguments)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("darkroom pull: ")
    assert message in last
    assert "Traceback" not in done.stderr
    assert not list(root.glob("[!.]*/[0-9]*"))


def test_a_hub_that_is_not_there_is_said_in_one_line(root: Path) -> None:
    done = pull(Hub({}, address="http://127.0.0.1:9"), root)
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr.strip().splitlines()[-1]
