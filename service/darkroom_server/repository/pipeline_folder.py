"""Whether a version folder holds a whole diffusers pipeline that is safe to load.

Or one that optimum saved for OpenVINO: the same folder, but with graphs instead of weights, and the
VAE in two parts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from darkroom_server.domain.problems import ProblemLog, first_names, quoted
from darkroom_server.pipelines.traits import PipelineParts
from darkroom_server.repository.git_lfs import POINTER_PROBLEM, is_pointer_file
from darkroom_server.repository.json_files import BadJson, parse_object
from darkroom_server.repository.openvino_weights import ARRAYS_NAME, GRAPH_NAME, check_openvino
from darkroom_server.repository.unused_weights import unused_weights, used_graphs, used_weights
from darkroom_server.repository.version_files import FileEntry
from darkroom_server.repository.weights import BadWeights, check_safetensors

INDEX_NAME = "model_index.json"

_PICKLE_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".joblib")
#: Libraries that a part may come from (diffusers would import any other name as it stands), and the
#: weights that each looks for in a part's folder.
_WEIGHT_NAMES = {
    "diffusers": "diffusion_pytorch_model.safetensors",
    "transformers": "model.safetensors",
}
#: The one part that diffusers names by a pipeline of its own instead of by the library.
_SAFETY_CHECKER = ("stable_diffusion", "StableDiffusionSafetyChecker")
#: Names of optimum's classes begin so; the rest is the name of diffusers' class.
OPENVINO_PREFIX = "OV"
_OPENVINO_DECODER = "vae_decoder"
_SCHEDULER_CONFIG = "scheduler_config.json"
#: Any of these has a tokenizer's words.
_VOCABULARIES = frozenset(
    {"tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model"}
    | {"sentencepiece.bpe.model", "tekken.json", "tiktoken.model"}
)
#: What processors of pictures and texts are kept in, by the library's release.
_PROCESSOR_CONFIGS = ("preprocessor_config.json", "processor_config.json")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_WEIGHT_INDEX = re.compile(r".*\.safetensors\.index(\.[^./]+)?\.json")
_MAX_JSON_BYTES = 16 << 20


def unsafe_files(names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Those of a version's files that are refused by their names alone, and why."""
    for name in names:
        stem, dot, suffix = name.rpartition(".")
        # OpenVINO keeps plain arrays in a .bin beside its .xml.
        is_openvino = suffix == "bin" and f"{stem}.xml" in names
        if (dot + suffix).lower() in _PICKLE_SUFFIXES and not is_openvino:
            yield (
                name,
                "may hold pickled code and is refused: convert the weights to safetensors and "
                "remove it",
            )
        elif suffix.lower() in ("py", "pyc", "so"):
            yield name, "is code, and code of a model is never run: remove it"


@dataclass(frozen=True, slots=True)
class PipelineFolder:
    """The files of a version folder; `shown` is the folder's name in problems."""

    files: dict[str, FileEntry]
    shown: str
    problems: ProblemLog
    #: Names of the tensors of each file of weights, and the shards that each index names.
    _tensors: dict[str, frozenset[str]] = field(default_factory=dict)
    _shards: dict[str, dict[str, set[str]]] = field(default_factory=dict)

    def read(self) -> PipelineParts | None:
        """The pipeline's parts, or None with a problem for everything wrong. Blocking."""
        before = self.problems.error_count
        for name, message in unsafe_files(self.files):
            self._error(name, message)
        if self._report_pointers():
            return None
        index = self._read_json(INDEX_NAME) if INDEX_NAME in self.files else None
        if INDEX_NAME not in self.files:
            self._error("", f"holds no {INDEX_NAME}: it is not a diffusers pipeline, or not whole")
        if index is None:
            return None
        class_name = self._class_name(index)
        if class_name is not None and self._is_openvino:
            class_name = OPENVINO_PREFIX + class_name.removeprefix(OPENVINO_PREFIX)
        components = self._components(index)
        configs = {name: self._check_part(name, *part) for name, part in components.items()}
        self._check_weights()
        if self.problems.error_count > before or class_name is None:
            return None
        self._report_unused(components)
        options = {
            name: value
            for name, value in index.items()
            if not name.startswith("_") and not isinstance(value, list)
        }
        return PipelineParts(
            class_name=class_name, components=components, configs=configs, options=options
        )

    def _report_pointers(self) -> bool:
        """Whether files have not been fetched; what else is wrong with them follows of it."""
        before = self.problems.error_count
        for name, entry in self.files.items():
            try:
                if is_pointer_file(entry.path, entry.size_bytes):
                    self._error(name, POINTER_PROBLEM)
            except OSError as error:
                self._error(name, f"cannot be read: {error.strerror}")
        return self.problems.error_count > before

    def _report_unused(self, components: dict[str, tuple[str, str]]) -> None:
        if self._is_openvino:
            used = used_graphs(self.files)
        else:
            own = {name: _weights_name(*part) for name, part in components.items()}
            used = used_weights(own, self.files, self._shards)
        for name, message in unused_weights(self.files, used, self._tensors):
            self.problems.warning(f"{self.shown}/{name}", message)

    @property
    def _is_openvino(self) -> bool:
        """Whether optimum saved it; its decoder alone is in a folder of this name."""
        return f"{_OPENVINO_DECODER}/{GRAPH_NAME}" in self.files

    def _error(self, name: str, message: str) -> None:
        self.problems.error(f"{self.shown}/{name}".rstrip("/"), message)

    def _read_json(self, name: str) -> dict[str, object] | None:
        entry = self.files[name]
        if entry.size_bytes > _MAX_JSON_BYTES:
            self._error(name, f"is larger than {_MAX_JSON_BYTES} bytes")
            return None
        try:
            return parse_object(entry.path.read_bytes())
        except BadJson as error:
            self.problems.error(f"{self.shown}/{name}", f"is not valid: {error}", at=error.at)
        except OSError as error:
            self._error(name, f"cannot be read: {error.strerror}")
        return None

    def _class_name(self, index: dict[str, object]) -> str | None:
        class_name = index.get("_class_name")
        if isinstance(class_name, str) and _IDENTIFIER.fullmatch(class_name):
            return class_name
        if isinstance(class_name, list | str):
            self._error(
                INDEX_NAME, "'_class_name' names code outside diffusers, which is never run"
            )
        else:
            self._error(INDEX_NAME, "has no '_class_name'")
        return None

    def _components(self, index: dict[str, object]) -> dict[str, tuple[str, str]]:
        components = {}
        if "auto_map" in index:
            self._error(INDEX_NAME, "'auto_map' names code of the model, which is never run")
        for name, value in index.items():
            if name.startswith("_"):
                continue
            match value:
                case [str(library), str(kind)] if _IDENTIFIER.fullmatch(name):
                    is_known = library in _WEIGHT_NAMES and _IDENTIFIER.fullmatch(kind)
                    if not is_known and (library, kind) != _SAFETY_CHECKER:
                        self._error(
                            INDEX_NAME,
                            f"{quoted(name)} is {quoted(kind)} of {quoted(library)}, but parts "
                            f"come from {' or '.join(_WEIGHT_NAMES)} only: other code is never run",
                        )
                    else:
                        components[name] = (library, kind)
                case [None, _]:
                    pass  # a part that is left out, whatever else the file says of it
                case [str(), _] | [_, str()]:
                    self._error(INDEX_NAME, f"{quoted(name)} is not [library, class]")
                case _:
                    pass  # a setting of the pipeline
        return components

    def _check_part(self, name: str, library: str, kind: str) -> dict[str, object]:
        """Checks that a part's files are there; returns its config, empty when it has none."""
        if name == "vae" and self._is_openvino:
            name = _OPENVINO_DECODER
        inside = [
            file.removeprefix(f"{name}/") for file in self.files if file.startswith(f"{name}/")
        ]
        if not inside:
            self._error(name, f"is missing, but {INDEX_NAME} names it: copy it again")
            return {}
        if "Scheduler" in kind:
            return self._part_config(name, _SCHEDULER_CONFIG)
        if "Tokenizer" in kind:
            if not _VOCABULARIES & set(inside):
                self._error(name, f"has no vocabulary (one of {', '.join(sorted(_VOCABULARIES))})")
            return self._part_config(name, "tokenizer_config.json")
        if "FeatureExtractor" in kind or "Processor" in kind:
            own = next((file for file in _PROCESSOR_CONFIGS if file in inside), None)
            return self._part_config(name, own or _PROCESSOR_CONFIGS[0])
        if kind.endswith(("Guidance", "Guider")):
            return self._part_config(name, "guider_config.json")
        if self._is_openvino and GRAPH_NAME in inside:
            return self._part_config(name, "config.json")
        weights = _weights_name(library, kind)
        if not {weights, f"{weights}.index.json"} & set(inside):
            others = any(file.endswith(".safetensors") for file in inside)
            advice = ": save them again under that name, without a variant" if others else ""
            self._error(name, f"has no weights {weights}, nor an index of its shards{advice}")
        return self._part_config(name, "config.json")

    def _part_config(self, name: str, file: str) -> dict[str, object]:
        path = f"{name}/{file}"
        if path not in self.files:
            self._error(path, f"is missing, but {INDEX_NAME} needs it: copy it again")
            return {}
        config = self._read_json(path) or {}
        if "auto_map" in config:
            self._error(path, "'auto_map' names code of the model, which is never run")
        if "transformers_weights" in config:
            self._error(path, "'transformers_weights' names another file of weights: remove it")
        return config

    def _check_weights(self) -> None:
        for name, entry in self.files.items():
            if name.endswith(".safetensors"):
                try:
                    self._tensors[name] = check_safetensors(entry.path, entry.size_bytes)
                except BadWeights as error:
                    self._error(name, str(error))
                except OSError as error:
                    self._error(name, f"cannot be read: {error.strerror}")
            elif self._is_openvino and name.endswith(f"/{GRAPH_NAME}"):
                self._check_graph(name, entry)
        for name in self.files:
            if _WEIGHT_INDEX.fullmatch(name):
                self._check_shards(name)

    def _check_graph(self, name: str, entry: FileEntry) -> None:
        arrays = self.files.get(name.removesuffix(GRAPH_NAME) + ARRAYS_NAME)
        if arrays is None:
            self._error(name.removesuffix(GRAPH_NAME) + ARRAYS_NAME, "is missing: copy it again")
            return
        try:
            check_openvino(entry.path, arrays.size_bytes)
        except BadWeights as error:
            self._error(name, str(error))
        except OSError as error:
            self._error(name, f"cannot be read: {error.strerror}")

    def _check_shards(self, name: str) -> None:
        index = self._read_json(name)
        if index is None:
            return
        weight_map = index.get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            self._error(name, "has no 'weight_map'")
            return
        by_shard: dict[str, set[str]] = {}
        for tensor, shard in weight_map.items():
            by_shard.setdefault(shard if isinstance(shard, str) else "", set()).add(tensor)
        self._shards[name] = by_shard
        folder = name.rpartition("/")[0]
        for shard, tensors in sorted(by_shard.items()):
            path = f"{folder}/{shard}".lstrip("/")
            if path not in self.files:
                self._error(
                    name, f"names the shard {quoted(shard)}, which is not there: copy it again"
                )
            elif missing := tensors - self._tensors.get(path, tensors):
                self._error(
                    path, f"lacks tensors that {quoted(name)} names: {first_names(missing)}"
                )


def _weights_name(library: str, kind: str) -> str:
    """What the file of a part's weights is called."""
    return _WEIGHT_NAMES["transformers" if (library, kind) == _SAFETY_CHECKER else library]
