"""The sizes of a pipeline without a family, from the settings of its parts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from darkroom_server.domain.models import Limits
from darkroom_server.parameters.bounds import MAX_SIZE_PX
from darkroom_server.pipelines.sizes import limits_of, most_px_of, trained_edge_px

#: Where nothing says more.
_UNKNOWN_EDGE_PX = 1024
#: Some refuse smaller pictures.
_SMALLEST_EDGE_PX = 64
#: Latents along each edge that most transformers take as one token, and UNets halve at least once.
_UNKNOWN_PACKING = 2
#: What pipelines call the part that makes pictures of latents, and the network that makes those.
_AUTOENCODERS = ("vae", "movq", "vqvae", "vqgan")
_DENOISERS = ("transformer", "unet", "prior_prior", "decoder", "image_unet")
#: Lists in an autoencoder's config that have one entry for each time that it halves the picture,
#: and how many entries they have besides.
_HALVINGS = (
    ("block_out_channels", 1),
    ("encoder_block_out_channels", 1),
    ("temperal_downsample", 0),
)
_FACTORS = ("spatial_compression_ratio", "scale_factor_spatial")


@dataclass(frozen=True, slots=True)
class WholeSizes:
    """The default edge, the grid, and the longest edge of which every token is known."""

    edge_px: int
    multiple_px: int
    most_px: int

    def limits(self) -> Limits:
        """From what every pipeline draws, or the default edge of a model for smaller pictures."""
        smallest_px = -(-_SMALLEST_EDGE_PX // self.multiple_px) * self.multiple_px
        return replace(
            limits_of(edge_px=self.edge_px, multiple_px=self.multiple_px, most_px=self.most_px),
            min_size_px=min(smallest_px, self.edge_px),
        )


def whole_sizes(
    components: Mapping[str, tuple[str, str]],
    configs: Mapping[str, dict[str, object]],
    options: Mapping[str, object],
    own_sample_size: int | None,
) -> WholeSizes:
    """As the pipelines work them out; `own_sample_size` is the one in the class's own code."""
    autoencoder = next((name for name in _AUTOENCODERS if name in components), None)
    factor = 1 if autoencoder is None else vae_factor_of(configs[autoencoder])
    multiple_px = factor * _UNKNOWN_PACKING
    name = next((one for one in _DENOISERS if one in components), None)
    denoiser = configs[name] if name is not None else {}
    most_px = most_px_of(denoiser, multiple_px)
    otherwise = trained_edge_px({"sample_size": own_sample_size}, factor, _UNKNOWN_EDGE_PX)
    said = {"sample_size": options.get("default_sample_size", denoiser.get("sample_size"))}
    edge_px = min(trained_edge_px(said, factor, otherwise), most_px)
    return WholeSizes(max(multiple_px, edge_px // multiple_px * multiple_px), multiple_px, most_px)


def vae_factor_of(config: Mapping[str, object]) -> int:
    """Pixels along each edge that become one latent; 8 where the config does not say."""
    for name in _FACTORS:
        factor = config.get(name)
        if type(factor) is int and 1 <= factor <= MAX_SIZE_PX:
            return factor
    for name, besides in _HALVINGS:
        steps = config.get(name)
        if isinstance(steps, list) and 1 <= len(steps) <= 8:
            return int(2 ** (len(steps) - besides))
    return 8
