"""Images by every denoiser against torch's in FP32, for requests that share steps and alone."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

from darkroom_server.backends.diffusers import network_choice
from darkroom_server.backends.diffusers.exporting import export as exporting
from darkroom_server.backends.diffusers.exporting.decoder import keep_if_faster
from darkroom_server.backends.diffusers.exporting.export import (
    LEAST_PSNR_DB,
    export_denoiser,
    load_as,
    write_graph,
)
from darkroom_server.backends.diffusers.exporting.parity import psnr_db
from darkroom_server.backends.diffusers.network_choice import use_export
from darkroom_server.backends.diffusers.networks.compiled import CompiledNetwork
from darkroom_server.backends.diffusers.networks.exported import ExportedDecoder
from darkroom_server.backends.diffusers.step_model import DiffusersStepModel
from darkroom_server.backends.exports import (
    UnusableDenoiser,
    decoder_path,
    export_folder,
    graph_path,
)
from darkroom_server.domain.errors import ModelUnavailable
from darkroom_server.domain.jobs import ImageSpec, Reproducibility
from darkroom_server.domain.models import (
    Denoiser,
    DenoiserKind,
    Dtype,
    ExportWeights,
    ModelInfo,
    VersionInfo,
)
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.worker.compile_ahead import compile_ahead
from darkroom_server.worker.trial import trial_spec
from tests.parity.shared import staggered
from tests.parity.tiny_flux import random_flux, random_flux_fill
from tests.parity.tiny_pipelines import random_sd, random_sdxl

#: Least PSNR of the final image against torch in FP32, in dB (docs/denoisers.md).
BF16_DB = 30.0

FAMILIES: dict[str, Callable[[Path], Any]] = {
    "sd": random_sd,
    "sdxl": random_sdxl,
    "flux-schnell": lambda folder: random_flux(folder, guided=False),
    "flux-dev": lambda folder: random_flux(folder, guided=True),
    "flux-fill": random_flux_fill,
}
#: The families whose every export is tried; the others' are tried once.
WHOLE = ("sdxl", "flux-dev")


@dataclass(frozen=True)
class Example:
    version: VersionInfo
    model: DiffusersStepModel
    traced: Path


@pytest.fixture(scope="module", params=FAMILIES)
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Example:
    """A version with its ONNX graph, which all exports are made of."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("repository")
    pipeline = FAMILIES[request.param](tmp_path_factory.mktemp("words"))
    pipeline.save_pretrained(root / request.param / "1")
    [found] = ModelRepository(root).scan().models
    [version] = found.versions
    model = load_as(version, Denoiser(), thread_count=1)
    graph = graph_path(root / "graph" / "new", DenoiserKind.ONNXRUNTIME)
    graph.parent.mkdir(parents=True)
    write_graph(
        model,
        spec_of(version.model),
        DenoiserKind.ONNXRUNTIME,
        ExportWeights.FP32,
        graph,
        say=lambda stage: None,  # noqa: ARG005
    )
    exporting.write_decoder(model, DenoiserKind.ONNXRUNTIME, graph.parent)
    return Example(version, model, graph)


def spec_of(info: ModelInfo, **changes: Any) -> ImageSpec:
    asked = trial_spec(info, 64, 64, prompt="a house", guidance_scale=3.0)
    return dataclasses.replace(asked, step_count=3, **changes)


def requests_of(info: ModelInfo) -> list[ImageSpec]:
    """Of two sizes, one odd in latents where the model takes it; with and without guidance."""
    grid_px = info.limits.size_multiple_px
    odd_px = 64 + grid_px
    shared = {"reproducibility": Reproducibility.TOLERANCE}
    sized = trial_spec(info, odd_px, 48, prompt="a tree", guidance_scale=2.0)
    return [
        spec_of(info, seeds=(1,), **shared),
        spec_of(info, seeds=(2,), **shared | {"guidance_scale": 1.0}),
        dataclasses.replace(spec_of(info, seeds=(3,), **shared), step_count=5),
        dataclasses.replace(sized, step_count=4, seeds=(4,), **shared),
        dataclasses.replace(sized, step_count=2, seeds=(5,), **shared),
        spec_of(info, seeds=(6,)),
    ]


def test_exports_draw_what_torch_draws(example: Example, tmp_path: Path) -> None:
    model, info = example.model, example.version.model
    asked = requests_of(info)
    stock = staggered(model, asked)
    graphs = {
        ("onnxruntime", "fp32"): example.traced,
        **dict(converted(example, tmp_path, whole=info.name in WHOLE)),
    }
    before = model.network, model.decoder
    for (kind, weights), graph in graphs.items():
        for compute in (Dtype.FP32, Dtype.BF16) if kind == "openvino" else (Dtype.FP32,):
            use_export(model, graph, DenoiserKind(kind), thread_count=1, compute=compute)
            try:
                made = staggered(model, asked)
            finally:
                model.network, model.decoder = before
            least_db = LEAST_PSNR_DB[ExportWeights(weights)]
            least_db = least_db if compute is Dtype.FP32 else BF16_DB
            found_db = min(psnr_db(one, by) for one, by in zip(made, stock, strict=True))
            assert found_db >= least_db, (kind, weights, compute)


def converted(
    example: Example, folder: Path, *, whole: bool
) -> Iterator[tuple[tuple[str, str], Path]]:
    """What is made of the ONNX graph for the other kinds of export."""

    def made(kind: DenoiserKind, weights: ExportWeights) -> tuple[tuple[str, str], Path]:
        graph = graph_path(folder / f"{kind.value}-{weights.value}", kind)
        graph.parent.mkdir()
        decoder = decoder_path(graph.parent, kind)
        traced_decoder = decoder_path(example.traced.parent, DenoiserKind.ONNXRUNTIME)
        if kind is DenoiserKind.ONNXRUNTIME:
            exporting.quantize_onnx(example.traced, graph)
        else:
            exporting.convert(example.traced, graph, weights)
            exporting.convert(traced_decoder, decoder, ExportWeights.FP32)
        return (kind.value, weights.value), graph

    yield made(DenoiserKind.OPENVINO, ExportWeights.FP32)
    if whole:
        yield made(DenoiserKind.OPENVINO, ExportWeights.INT8)
        yield made(DenoiserKind.ONNXRUNTIME, ExportWeights.INT8)


class TestDecoder:
    """Which of the two decoders takes longer is up to the clock here."""

    def kept(self, example: Example, folder: Path, *, torch_s: float, graph_s: float) -> Path:
        shutil.copytree(example.traced.parent, folder)
        turns = itertools.cycle((0.0, torch_s, 0.0, graph_s))
        gain = keep_if_faster(
            example.model,
            spec_of(example.version.model),
            folder,
            DenoiserKind.ONNXRUNTIME,
            thread_count=1,
            clock=lambda: next(turns),
        )
        assert gain == (torch_s / graph_s if torch_s > graph_s else None)
        return decoder_path(folder, DenoiserKind.ONNXRUNTIME)

    def test_a_faster_one_is_kept(self, example: Example, tmp_path: Path) -> None:
        assert self.kept(example, tmp_path / "new", torch_s=3.0, graph_s=1.5).exists()

    def test_a_slower_one_is_not(self, example: Example, tmp_path: Path) -> None:
        decoder = self.kept(example, tmp_path / "new", torch_s=1.0, graph_s=1.0)
        assert not list(decoder.parent.glob("decoder*"))
        assert list(decoder.parent.glob("denoiser*"))

    def test_images_that_are_decoded_in_tiles_are_torchs(self, example: Example) -> None:
        model, decoder = example.model, example.model.decoder
        before = model.network
        use = partial(
            use_export,
            model,
            example.traced,
            DenoiserKind.ONNXRUNTIME,
            thread_count=1,
            compute=Dtype.FP32,
        )
        try:
            model.vae.enable_tiling()
            use()
            assert model.decoder == decoder
            model.vae.disable_tiling()
            use()
            assert isinstance(model.decoder, ExportedDecoder)
        finally:
            model.vae.disable_tiling()
            model.network, model.decoder = before, decoder


class TestExport:
    @pytest.fixture
    def version(self, example: Example, monkeypatch: pytest.MonkeyPatch) -> Iterator[VersionInfo]:
        if example.version.model.name != "sdxl":
            pytest.skip("one family is enough")

        def copied(*args: Any, **kwargs: Any) -> None:  # noqa: ARG001
            target = args[4]
            for path in example.traced.parent.iterdir():
                shutil.copy(path, target.parent / path.name)

        monkeypatch.setattr(exporting, "write_graph", copied)
        monkeypatch.setattr(exporting, "write_decoder", lambda *_: None)
        yield example.version
        for name in ("onnx", "openvino"):
            shutil.rmtree(example.version.path / name, ignore_errors=True)

    def exported(self, version: VersionInfo) -> Path:
        return export_denoiser(
            version,
            DenoiserKind.ONNXRUNTIME,
            ExportWeights.FP32,
            spec=spec_of(version.model),
            thread_count=1,
        ).folder

    def test_is_served_and_leaves_the_digest_as_it_is(self, version: VersionInfo) -> None:
        folder = self.exported(version)
        self.exported(version)  # once more: the new one takes the old one's place
        assert folder == export_folder(version.path, DenoiserKind.ONNXRUNTIME, ExportWeights.FP32)
        [found] = ModelRepository(version.path.parents[1]).scan().models
        assert found.versions[0].digest == version.digest
        served = load_as(version, Denoiser(kind=DenoiserKind.ONNXRUNTIME), thread_count=1)
        assert all(one.is_meta for one in served.module.parameters())
        assert [path.name for path in version.path.glob(".exporting*")] == []

    def test_one_that_draws_something_else_is_not_kept(
        self, version: VersionInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(exporting, "lowest_psnr_db", lambda *_, **__: 59.0)
        with pytest.raises(UnusableDenoiser, match=r"59\.0 dB .*60 dB are needed"):
            self.exported(version)
        assert not (version.path / "onnx" / "fp32").exists()
        assert list(version.path.glob(".exporting*")) == []

    def test_an_interrupted_one_is_not_there(
        self, version: VersionInfo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: Any, **__: Any) -> float:
            raise KeyboardInterrupt

        monkeypatch.setattr(exporting, "lowest_psnr_db", interrupted)
        with pytest.raises(KeyboardInterrupt):
            self.exported(version)
        assert not (version.path / "onnx" / "fp32").exists()


def test_attention_is_chosen_for_one_model_alone(example: Example) -> None:
    if not example.version.model.name.startswith("flux"):
        pytest.skip("diffusers lets one choose the attention of FLUX only")
    active = _AttentionBackendRegistry.get_active_backend()
    chosen = Denoiser(attention_backend="_native_math")
    model = load_as(example.version, chosen, thread_count=1)
    backends = {
        part.processor._attention_backend
        for part in model.module.modules()
        if hasattr(getattr(part, "processor", None), "_attention_backend")
    }
    assert backends == {AttentionBackendName._NATIVE_MATH}
    assert _AttentionBackendRegistry.get_active_backend() == active
    with pytest.raises(ModelUnavailable, match=r"'what' cannot be used: .* Known: .*native"):
        load_as(example.version, Denoiser(attention_backend="what"), thread_count=1)


@pytest.mark.parametrize("kind", [DenoiserKind.ONNXRUNTIME, DenoiserKind.OPENVINO])
def test_without_an_export_or_its_package_a_load_says_what_helps(
    example: Example, monkeypatch: pytest.MonkeyPatch, kind: DenoiserKind
) -> None:
    with pytest.raises(ModelUnavailable, match=r"run darkroom export .* --to"):
        load_as(example.version, Denoiser(kind=kind), thread_count=1)
    monkeypatch.setattr(network_choice.importlib.util, "find_spec", lambda name: None)  # noqa: ARG005
    with pytest.raises(ModelUnavailable, match=r"is not installed: pip install 'darkroom-server"):
        load_as(example.version, Denoiser(kind=kind), thread_count=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["sdxl", "flux-dev"])
def test_compiled_never_compiles_while_serving(tmp_path: Path, name: str) -> None:
    """200 requests of a mixed workload after the warm-up: no graph is compiled."""
    torch.set_num_threads(1)
    FAMILIES[name](tmp_path / "words").save_pretrained(tmp_path / "m" / name / "1")
    [found] = ModelRepository(tmp_path / "m").scan().models
    [version] = found.versions
    denoiser = Denoiser(kind=DenoiserKind.TORCH_COMPILE, compiled_sizes=((64, 64),))
    info = dataclasses.replace(
        version.model, denoiser=denoiser, reproducibility=Reproducibility.TOLERANCE
    )
    stock = load_as(version, Denoiser(), thread_count=1)
    model = load_as(version, denoiser, thread_count=1)
    assert isinstance(model.network, CompiledNetwork)
    compile_ahead(model, info)
    model.end_warm_up()
    asked = [
        spec_of(info, seeds=(number,), reproducibility=Reproducibility.TOLERANCE)
        if number % 4
        else requests_of(info)[3]
        for number in range(200)
    ]
    made = staggered(model, asked)
    counts = model.compile_counts()
    assert counts.graph_count > 0
    assert counts.recompile_count == 0
    assert counts.uncompiled_step_count > 0, "the size that was not warmed up ran as well"
    for one, wanted in zip(made[:8], staggered(stock, asked[:8]), strict=True):
        assert psnr_db(one, wanted) >= LEAST_PSNR_DB[ExportWeights.FP32]
