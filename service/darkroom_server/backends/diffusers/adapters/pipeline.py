"""A pipeline's adapters: those that requests ask for, in memory and in use in its parts.

Belongs to the model thread, but for what says otherwise.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch

from darkroom_server.backends.diffusers.adapters.layers import Hooks, adding, hooks
from darkroom_server.backends.diffusers.adapters.low_rank import Adapter, AdapterSet, Weighted
from darkroom_server.backends.diffusers.adapters.products import Products
from darkroom_server.backends.diffusers.adapters.reading import (
    BadAdapter,
    denoiser_name,
    read_adapter,
    takes_adapters,
)
from darkroom_server.backends.diffusers.adapters.shelf import AdapterShelf
from darkroom_server.backends.diffusers.networks.image_rows import ImageRows
from darkroom_server.backends.diffusers.networks.present_images import PresentImages
from darkroom_server.backends.prompt_cache import Embeddings, PromptCache
from darkroom_server.domain.adapters import AdapterMemory, AdapterVersion
from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.domain.jobs import ImageSpec

#: Adapters that are kept ready for the next step, whatever the limits of the shelves.
_MAX_LAST_BYTES = 64 << 20


class AdaptedImage(Protocol):
    """An image on its way; `adapters` None until it takes its first step."""

    spec: ImageSpec
    adapters: AdapterSet | None


class AdaptedPrompts:
    """The prompt cache, with the adapters of the request that is being encoded."""

    def __init__(self, prompts: PromptCache) -> None:
        self._prompts = prompts
        #: Whatever of adapters changes embeddings; empty: nothing does.
        self.adapted_by: Hashable = ()

    def lookup(self, key: Hashable, make: Callable[[], Embeddings]) -> Embeddings:
        """As the cache's own."""
        return self._prompts.lookup((key, self.adapted_by) if self.adapted_by else key, make)


class PipelineAdapters:
    """What requests' adapters do to a pipeline. `present` are the images of the step that runs."""

    def __init__(
        self, pipeline: Any, denoiser: torch.nn.Module, prompts: PromptCache, device: torch.device
    ) -> None:
        self._pipeline = pipeline
        self._denoiser = denoiser
        self._device = device
        self.prompts = AdaptedPrompts(prompts)
        self.present = PresentImages()
        self.products = Products()
        self._last: tuple[Hashable, Hooks] | None = None
        self._denoiser_name = denoiser_name(pipeline) if takes_adapters(pipeline) else ""
        self._fetching: dict[str, Future[Adapter]] = {}
        self._fetching_lock = threading.Lock()
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="adapters")
        self.hold(AdapterMemory())

    def hold(self, memory: AdapterMemory) -> None:
        """Sets how many bytes of adapters stay in host memory, and on a device with its own."""
        self._host = AdapterShelf(max_bytes=memory.max_host_bytes)
        self._on_device = AdapterShelf(max_bytes=memory.max_device_bytes)

    def prepared(self, spec: ImageSpec, wait_s: float) -> bool:
        """Whether a request's adapters are in host memory, or cannot be, after at most `wait_s`.

        Any thread: what is not there is read beside the steps.
        """
        fetching = [one for use in spec.adapters if (one := self._begun(use.adapter)) is not None]
        if fetching and wait_s:
            wait(fetching, timeout=wait_s)
        return all(one.done() for one in fetching)

    def _begun(self, adapter: AdapterVersion) -> Future[Adapter] | None:
        """The reading of an adapter that is not there."""
        key = adapter.digest
        with self._fetching_lock:
            if self._host.found(key) is not None:
                self._fetching.pop(key, None)
                return None
            if key not in self._fetching:
                self._fetching[key] = self._readers.submit(self.fetch, adapter)
            return self._fetching[key]

    def of(self, spec: ImageSpec) -> AdapterSet:
        """The adapters of a request, on the device; raises InvalidParameter naming the one."""
        with self._fetching_lock:
            for use in spec.adapters:
                self._fetching.pop(use.adapter.digest, None)
        return tuple(Weighted(self._adapter(use.adapter), use.weight) for use in spec.adapters)

    def of_images(self, images: Sequence[AdaptedImage]) -> tuple[AdapterSet, ...]:
        """Each image's, which hold them until they are made; nothing where no image has any."""
        for one in images:
            if one.adapters is None:
                one.adapters = self.of(one.spec)
        if not any(one.adapters for one in images):
            return ()
        return tuple(one.adapters or () for one in images)

    @contextmanager
    def encoding(self, spec: ImageSpec) -> Iterator[None]:
        """Texts encoded within are read as the request's adapters have it."""
        adapters = self.of(spec)
        names = {name for one in adapters for name in one.adapter.parts} - {self._denoiser_name}
        if not names:
            yield
            return
        self.present.set((1,))
        self.prompts.adapted_by = tuple(
            (one.adapter.key, one.weight) for one in adapters if names & one.adapter.parts.keys()
        )
        try:
            with ExitStack() as stack:
                for name in names:
                    part = getattr(self._pipeline, name)
                    own = hooks(name, part, [adapters], self.present, self.products)
                    stack.enter_context(adding(own))
                yield
        finally:
            self.prompts.adapted_by = ()

    @contextmanager
    def denoising(self, sets: Sequence[AdapterSet], image_rows: ImageRows) -> Iterator[None]:
        """What the denoiser predicts within is with each image's adapters."""
        if not sets:
            yield
            return
        self.present.set(image_rows)
        with adding(self._hooks(sets)):
            yield

    def _hooks(self, sets: Sequence[AdapterSet]) -> Hooks:
        """Of the denoiser; those of the last step where it had the same adapters."""
        key = tuple(tuple((one.adapter.key, one.weight) for one in adapters) for adapters in sets)
        if self._last is not None and self._last[0] == key:
            return self._last[1]
        made = hooks(self._denoiser_name, self._denoiser, sets, self.present, self.products)
        size_bytes = sum(one.adapter.nbytes for adapters in sets for one in adapters)
        self._last = (key, made) if size_bytes <= _MAX_LAST_BYTES else None
        return made

    def fetch(self, adapter: AdapterVersion) -> Adapter:
        """An adapter in host memory. Any thread; raises InvalidParameter with the reason."""

        def make() -> Adapter:
            if not self._denoiser_name:
                raise InvalidParameter("adapters", "the model takes none")
            try:
                read = read_adapter(adapter.path, self._pipeline, key=adapter.digest)
                status = adapter.path.stat()
                if adapter.mtime_ns not in (0, status.st_mtime_ns):
                    raise BadAdapter("has been replaced meanwhile; ask again")
                return read
            except BadAdapter as error:
                shown = f"adapter {adapter.name}/{adapter.version} {error}"
                raise InvalidParameter("adapters", shown) from error
            except OSError as error:
                shown = f"adapter {adapter.name}/{adapter.version} cannot be read"
                raise InvalidParameter("adapters", f"{shown}: {error.strerror}") from error

        return self._host.lookup(adapter.digest, make)

    def _adapter(self, adapter: AdapterVersion) -> Adapter:
        if self._device.type == "cpu":
            return self.fetch(adapter)
        return self._on_device.lookup(adapter.digest, lambda: self.fetch(adapter).to(self._device))
