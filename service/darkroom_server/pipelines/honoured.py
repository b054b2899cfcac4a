"""Which settings of a pipeline's parts the step-by-step families honour. Pure.

A setting is the part's own, honoured by the family, or impossible: no request could satisfy it.
Anything else that is set, among it what a later diffusers may add, could change what the stock
pipeline does around the part, so that requests run whole, with the pipeline's own code. A test
holds the tables to the classes of the installed diffusers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

#: What a class may be given for a part that runs in the pipeline's own code: texts' encoders and
#: tokenizers, and what looks at pictures.
_OTHER_PARTS = frozenset(
    {"safety_checker", "feature_extractor", "image_encoder", "processor"}
    | {
        f"{part}{number}"
        for part in ("text_encoder", "tokenizer")
        for number in ("", "_2", "_3", "_4")
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRules:
    """The settings of one class of part.

    `own` shape the part, which is called as the pipeline calls it, or are honoured by the family.
    Of `only`, these values are honoured and others are not. Of `impossible`, others than these are
    refused with the reason, and so is a `needed` one that is null: the stock pipeline fails, too.
    """

    own: frozenset[str]
    only: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    impossible: Mapping[str, tuple[tuple[object, ...], str]] = field(default_factory=dict)
    needed: frozenset[str] = frozenset()

    def settings(self) -> frozenset[str]:
        """All that are known."""
        return self.own | self.only.keys() | self.impossible.keys() | self.needed


@dataclass(frozen=True, slots=True)
class Unhonoured:
    """A setting that no family can honour step by step; refused if nothing else can either."""

    file: str
    message: str
    is_refused: bool


#: Entries of `model_index.json` that are no parts: each pipeline's class honours its own, and
#: ignores what is another's, step by step as by its own code.
OPTIONS = frozenset(
    {"requires_safety_checker", "force_zeros_for_empty_prompt", "requires_aesthetics_score"}
    | {"is_distilled"}
)
#: Characters of a value in a message.
_MAX_SHOWN = 60

_CLASS_LABELS = "needs a class label, which no request has"
_ADDED_IMAGES = "needs embeddings of an image, which no request has"
_COLOURS = "makes pictures of other than three colours"

_UNET_OWN = """
    sample_size in_channels out_channels center_input_sample flip_sin_to_cos freq_shift
    down_block_types mid_block_type up_block_types only_cross_attention block_out_channels
    layers_per_block downsample_padding mid_block_scale_factor dropout act_fn norm_num_groups
    norm_eps cross_attention_dim transformer_layers_per_block reverse_transformer_layers_per_block
    encoder_hid_dim attention_head_dim num_attention_heads dual_cross_attention
    use_linear_projection addition_time_embed_dim upcast_attention resnet_time_scale_shift
    resnet_skip_time_act resnet_out_scale_factor time_embedding_type time_embedding_dim
    time_embedding_act_fn timestep_post_act conv_in_kernel conv_out_kernel
    projection_class_embeddings_input_dim attention_type class_embeddings_concat
    mid_block_only_cross_attention cross_attention_norm addition_embed_type_num_heads
    time_cond_proj_dim
"""
_VAE_OWN = """
    down_block_types up_block_types block_out_channels layers_per_block act_fn latent_channels
    norm_num_groups sample_size scaling_factor latents_mean latents_std force_upcast use_quant_conv
    use_post_quant_conv mid_block_add_attention shift_factor
"""
_TINY_VAE_OWN = """
    encoder_block_out_channels decoder_block_out_channels act_fn upsample_fn latent_channels
    num_encoder_blocks num_decoder_blocks latent_magnitude latent_shift force_upcast scaling_factor
    block_out_channels shift_factor
"""
_ASYMMETRIC_VAE_OWN = """
    down_block_types down_block_out_channels layers_per_down_block up_block_types
    up_block_out_channels layers_per_up_block act_fn latent_channels norm_num_groups sample_size
    scaling_factor block_out_channels force_upcast
"""
_FLUX_OWN = """
    in_channels out_channels num_layers num_single_layers attention_head_dim num_attention_heads
    joint_attention_dim pooled_projection_dim guidance_embeds axes_dims_rope
"""
_SD3_OWN = """
    sample_size in_channels num_layers attention_head_dim num_attention_heads joint_attention_dim
    caption_projection_dim pooled_projection_dim out_channels pos_embed_max_size
    dual_attention_layers qk_norm
"""
_HIDREAM_OWN = """
    in_channels out_channels num_layers num_single_layers attention_head_dim num_attention_heads
    caption_channels text_emb_dim num_routed_experts num_activated_experts axes_dims_rope
    max_resolution llama_layers force_inference_output
"""

_Z_IMAGE_OWN = """
    all_patch_size all_f_patch_size in_channels dim n_layers n_refiner_layers n_heads n_kv_heads
    norm_eps qk_norm cap_feat_dim siglip_feat_dim rope_theta t_scale axes_dims axes_lens
"""

_FLUX2_OWN = """
    in_channels out_channels num_layers num_single_layers attention_head_dim num_attention_heads
    joint_attention_dim timestep_guidance_channels mlp_ratio axes_dims_rope rope_theta eps
    guidance_embeds
"""
_FLUX2_VAE_OWN = """
    down_block_types up_block_types block_out_channels decoder_block_out_channels layers_per_block
    act_fn latent_channels norm_num_groups sample_size force_upcast use_quant_conv
    use_post_quant_conv mid_block_add_attention batch_norm_eps batch_norm_momentum
"""

#: The last is in the published settings; diffusers ignores it.
_QWEN_OWN = """
    in_channels out_channels num_layers attention_head_dim num_attention_heads joint_attention_dim
    axes_dims_rope pooled_projection_dim
"""
#: Of its other pipelines.
_QWEN_OTHERS = dict.fromkeys(
    ("guidance_embeds", "zero_cond_t", "use_additional_t_cond", "use_layer3d_rope"), (False,)
)
_QWEN_VAE_OWN = """
    base_dim z_dim dim_mult num_res_blocks attn_scales temperal_downsample dropout input_channels
    latents_mean latents_std
"""
_CHROMA_OWN = """
    in_channels out_channels num_layers num_single_layers attention_head_dim num_attention_heads
    joint_attention_dim axes_dims_rope approximator_num_channels approximator_hidden_dim
    approximator_layers
"""
_SANA_OWN = """
    in_channels out_channels num_attention_heads attention_head_dim num_layers
    num_cross_attention_heads cross_attention_head_dim cross_attention_dim caption_channels
    mlp_ratio dropout attention_bias sample_size patch_size norm_elementwise_affine norm_eps
    interpolation_scale guidance_embeds_scale qk_norm timestep_scale
"""
_DC_OWN = """
    latent_channels attention_head_dim encoder_block_types decoder_block_types
    encoder_block_out_channels decoder_block_out_channels encoder_layers_per_block
    decoder_layers_per_block encoder_qkv_multiscales decoder_qkv_multiscales upsample_block_type
    downsample_block_type decoder_norm_types decoder_act_fns encoder_out_shortcut
    decoder_in_shortcut decoder_conv_act_fn scaling_factor
"""

_LUMINA2_OWN = """
    sample_size in_channels out_channels hidden_size num_layers num_refiner_layers
    num_attention_heads num_kv_heads multiple_of ffn_dim_multiplier norm_eps scaling_factor
    axes_dim_rope axes_lens cap_feat_dim
"""
_COGVIEW4_OWN = """
    in_channels out_channels num_layers attention_head_dim num_attention_heads text_embed_dim
    time_embed_dim condition_dim pos_embed_max_size sample_size rope_axes_dim
"""
_AURA_FLOW_OWN = """
    sample_size in_channels num_mmdit_layers num_single_dit_layers attention_head_dim
    num_attention_heads joint_attention_dim caption_projection_dim out_channels pos_embed_max_size
"""
_OVIS_IMAGE_OWN = """
    in_channels out_channels num_layers num_single_layers attention_head_dim num_attention_heads
    joint_attention_dim axes_dims_rope
"""
_PIXART_OWN = """
    num_attention_heads attention_head_dim in_channels out_channels num_layers dropout
    norm_num_groups cross_attention_dim attention_bias sample_size activation_fn
    num_embeds_ada_norm upcast_attention norm_type norm_elementwise_affine norm_eps
    interpolation_scale caption_channels attention_type
"""


def _names(text: str) -> frozenset[str]:
    # Weights that were saved quantized are the part's own, too.
    return frozenset(text.split()) | {"quantization_config"}


def _unet(*, added: tuple[object, ...]) -> PartRules:
    return PartRules(
        own=_names(_UNET_OWN),
        impossible={
            "class_embed_type": ((None,), _CLASS_LABELS),
            "num_class_embeds": ((None,), _CLASS_LABELS),
            "encoder_hid_dim_type": ((None, "text_proj"), _ADDED_IMAGES),
            "addition_embed_type": (added, "needs inputs that its pipeline does not give"),
        },
    )


def _vae(own: str, *, is_shifted: bool, **only: tuple[object, ...]) -> PartRules:
    return PartRules(
        own=_names(own) - {"shift_factor"} if is_shifted else _names(own),
        only=only,
        impossible={
            "in_channels": ((3,), _COLOURS),
            "out_channels": ((3,), _COLOURS),
        },
        needed=frozenset({"shift_factor"}) if is_shifted else frozenset(),
    )


def _vaes(*, is_shifted: bool) -> dict[str, PartRules]:
    return {
        "AutoencoderKL": _vae(_VAE_OWN, is_shifted=is_shifted),
        "AutoencoderTiny": _vae(
            _TINY_VAE_OWN, is_shifted=is_shifted, upsampling_scaling_factor=(2,)
        ),
    }


_UNET_VAES = _vaes(is_shifted=False) | {
    # Its decoder takes the image and the mask of a fill, too, in Stable Diffusion's pipeline.
    "AsymmetricAutoencoderKL": _vae(_ASYMMETRIC_VAE_OWN, is_shifted=False)
}
_FLOW_VAES = _vaes(is_shifted=True)
#: Of transformers whose latents are scaled only, whatever a shift says.
_PLAIN_VAES = _vaes(is_shifted=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyRules:
    """What a family's step-by-step code honours: classes of denoisers and VAEs with their rules."""

    denoisers: Mapping[str, PartRules]
    vaes: Mapping[str, PartRules]

    def unhonoured(
        self,
        denoiser: str,
        components: Mapping[str, tuple[str, str]],
        configs: Mapping[str, Mapping[str, object]],
        options: Mapping[str, object],
    ) -> Iterator[Unhonoured]:
        """Every setting that is not honoured; `denoiser` is the name of that part."""
        for name, value in options.items():
            if name not in OPTIONS and not _is_off(value):
                yield Unhonoured("model_index.json", _unknown(name, value), False)
        for name in sorted(components.keys() - _OTHER_PARTS - {denoiser, "vae", "scheduler"}):
            yield Unhonoured("model_index.json", f"'{name}' is no part that is used", False)
        for name, rules in ((denoiser, self.denoisers), ("vae", self.vaes)):
            kind, file = components[name][1], f"{name}/config.json"
            if kind not in rules:
                yield Unhonoured("model_index.json", f"'{name}' is a {kind}", False)
            else:
                yield from _of_part(rules[kind], file, configs[name])


def _of_part(rules: PartRules, file: str, config: Mapping[str, object]) -> Iterator[Unhonoured]:
    for name, value in config.items():
        if name.startswith("_") or name in rules.own:
            continue
        if name in rules.impossible:
            possible, reason = rules.impossible[name]
            if value not in possible:
                yield Unhonoured(file, f"'{name}' {_shown(value)} {reason}", True)
        elif name in rules.needed:
            if value is None:
                yield Unhonoured(file, f"'{name}' must be a number", True)
        elif name in rules.only:
            if value not in rules.only[name]:
                yield Unhonoured(file, _unknown(name, value), False)
        elif not _is_off(value):
            yield Unhonoured(file, _unknown(name, value), False)


def _is_off(value: object) -> bool:
    return value is None or value is False


def _unknown(name: str, value: object) -> str:
    return f"'{name}' {_shown(value)} is not honoured step by step"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


SD = FamilyRules(
    denoisers={"UNet2DConditionModel": _unet(added=(None, "text"))},
    vaes=_UNET_VAES,
)
SDXL = FamilyRules(
    denoisers={"UNet2DConditionModel": _unet(added=(None, "text", "text_time"))},
    vaes=_UNET_VAES,
)
FLUX = FamilyRules(
    denoisers={
        "FluxTransformer2DModel": PartRules(own=_names(_FLUX_OWN), only={"patch_size": (1,)})
    },
    vaes=_FLOW_VAES,
)
SD3 = FamilyRules(
    denoisers={"SD3Transformer2DModel": PartRules(own=_names(_SD3_OWN), only={"patch_size": (2,)})},
    vaes=_FLOW_VAES,
)
FLUX2 = FamilyRules(
    denoisers={
        "Flux2Transformer2DModel": PartRules(own=_names(_FLUX2_OWN), only={"patch_size": (1,)})
    },
    vaes={
        "AutoencoderKLFlux2": _vae(_FLUX2_VAE_OWN, is_shifted=False, patch_size=((2, 2), [2, 2]))
    },
)
Z_IMAGE = FamilyRules(
    denoisers={"ZImageTransformer2DModel": PartRules(own=_names(_Z_IMAGE_OWN))},
    vaes=_FLOW_VAES,
)
QWEN_IMAGE = FamilyRules(
    denoisers={
        "QwenImageTransformer2DModel": PartRules(
            own=_names(_QWEN_OWN), only={"patch_size": (2,), **_QWEN_OTHERS}
        )
    },
    vaes={"AutoencoderKLQwenImage": PartRules(own=_names(_QWEN_VAE_OWN))},
)
CHROMA = FamilyRules(
    denoisers={
        "ChromaTransformer2DModel": PartRules(own=_names(_CHROMA_OWN), only={"patch_size": (1,)})
    },
    vaes=_FLOW_VAES,
)
SANA = FamilyRules(
    denoisers={
        "SanaTransformer2DModel": PartRules(
            own=_names(_SANA_OWN), only={"guidance_embeds": (False,)}
        )
    },
    vaes={
        "AutoencoderDC": PartRules(
            own=_names(_DC_OWN), impossible={"in_channels": ((3,), _COLOURS)}
        )
    },
)
LUMINA2 = FamilyRules(
    denoisers={
        "Lumina2Transformer2DModel": PartRules(own=_names(_LUMINA2_OWN), only={"patch_size": (2,)})
    },
    vaes=_FLOW_VAES,
)
COGVIEW4 = FamilyRules(
    denoisers={
        "CogView4Transformer2DModel": PartRules(
            own=_names(_COGVIEW4_OWN), only={"patch_size": (2,)}
        )
    },
    vaes=_PLAIN_VAES,
)
AURA_FLOW = FamilyRules(
    denoisers={
        "AuraFlowTransformer2DModel": PartRules(
            own=_names(_AURA_FLOW_OWN), only={"patch_size": (2,)}
        )
    },
    vaes=_PLAIN_VAES,
)
OVIS_IMAGE = FamilyRules(
    denoisers={
        "OvisImageTransformer2DModel": PartRules(
            own=_names(_OVIS_IMAGE_OWN), only={"patch_size": (1,)}
        )
    },
    vaes=_FLOW_VAES,
)
_PIXART_ONLY = {"patch_size": (2,), "use_additional_conditions": (False,)}
PIXART_SIGMA = FamilyRules(
    denoisers={
        "PixArtTransformer2DModel": PartRules(own=_names(_PIXART_OWN), only=_PIXART_ONLY),
        # As it was published; diffusers makes the class above of it.
        "Transformer2DModel": PartRules(
            own=_names(_PIXART_OWN) - {"norm_type"},
            only={**_PIXART_ONLY, "norm_type": ("ada_norm_single",)},
        ),
    },
    vaes=_PLAIN_VAES,
)
HIDREAM = FamilyRules(
    denoisers={
        "HiDreamImageTransformer2DModel": PartRules(
            own=_names(_HIDREAM_OWN), only={"patch_size": (2,)}
        )
    },
    vaes=_FLOW_VAES,
)
