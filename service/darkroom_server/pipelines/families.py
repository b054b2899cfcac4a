"""The pipeline classes that can be served, and what is true of every model of each class."""

from __future__ import annotations

from dataclasses import dataclass, replace

from darkroom_server.domain.jobs import StrengthRounding, Task
from darkroom_server.domain.models import DenoiserKind
from darkroom_server.pipelines import honoured
from darkroom_server.pipelines.honoured import FamilyRules
from darkroom_server.pipelines.schedulers import SchedulerKind

_DIFFUSION_SCHEDULERS = (
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
)
#: LCM's is for weights distilled for it.
_FLOW_SCHEDULERS = ("FlowMatchEulerDiscreteScheduler",)

_ALL = frozenset({Task.TEXT_TO_IMAGE, Task.IMAGE_TO_IMAGE, Task.FILL})
_FILL = frozenset({Task.FILL})
_TEXT_TO_IMAGE = frozenset({Task.TEXT_TO_IMAGE})
_WITHOUT_FILL = frozenset({Task.TEXT_TO_IMAGE, Task.IMAGE_TO_IMAGE})
_EDIT = frozenset({Task.EDIT})
_EDITS = frozenset({Task.TEXT_TO_IMAGE, Task.EDIT})


#: HiDream's experts and Stable Diffusion 3 have no blocks that torch compiles one by one, and have
#: not been exported.
_ANY_DENOISER = frozenset(DenoiserKind)
_TORCH = frozenset({DenoiserKind.TORCH})


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One pipeline class: what is true of its models, and what runs them step by step.

    `step_model` is that code: a module of `backends/diffusers/families`, and a class in it. What of
    a pipeline's settings it honours is `honours`; whatever else is set makes requests run whole.

    `packing` is how many latents along each edge the denoiser takes as one token, so that sizes are
    multiples of it times the VAE's factor. `step_count` and `guidance_scale` are the defaults of
    the class in diffusers, but for SDXL's steps (30 instead of 50, which is where pictures stop
    changing visibly). With `embeds_guidance`, a denoiser whose config lacks `guidance_embeds`
    is a distilled one of few steps without guidance. With `bounds_area`, no image has more
    pixels than the square that the denoiser was made for. A pipeline's folder must hold
    `text_encoders`. With `caches_features`, requests may ask for a feature cache,
    with `takes_adapters` for adapters. `denoisers` can
    compute its steps.

    `schedulers` are offered unless a config names others; which it may name, `schedulers.py`
    says, from the `scheduler_kind` and what is given to a scheduler besides the number of steps
    (`schedule_gives`). With `packs_channels` the latents of a token stand in its channels, and with
    `takes_masks` the masked image and the mask do, too. Of one that edits, `domain/references.py`
    says how it takes its images. With
    `guidance_needs_negative` it guides only where there is a negative prompt, with
    `learns_variance` its denoiser may give a variance besides. Without
    `can_run_whole` the pipeline's own code does not keep the size that is asked for.
    """

    step_model: str
    honours: FamilyRules
    tasks: frozenset[Task]
    denoiser: str
    packing: int
    schedulers: tuple[str, ...]
    takes_negative_prompt: bool
    step_count: int
    guidance_scale: float
    edge_px: int = 1024
    embeds_guidance: bool = False
    strength_rounding: StrengthRounding = StrengthRounding.DOWN
    bounds_area: bool = False
    caches_features: bool = False
    takes_adapters: bool = False
    text_encoders: tuple[str, ...] = ()
    scheduler_kind: SchedulerKind = SchedulerKind.DIFFUSION
    schedule_gives: frozenset[str] = frozenset()
    can_run_whole: bool = True
    packs_channels: bool = False
    takes_masks: bool = False
    guidance_needs_negative: bool = False
    learns_variance: bool = False
    denoisers: frozenset[DenoiserKind] = _ANY_DENOISER

    @property
    def parameters(self) -> frozenset[str]:
        """The parameters that not every family honours, and this one does."""
        honoured = {
            "negative_prompt": self.takes_negative_prompt,
            "feature_cache": self.caches_features,
            "adapters": self.takes_adapters,
        }
        return frozenset(name for name, does in honoured.items() if does)


#: What most transformers that predict velocities have in common.
_GUIDED_FLOW = Family(
    step_model="",
    honours=honoured.FLUX,
    denoisers=_TORCH,
    tasks=_TEXT_TO_IMAGE,
    denoiser="transformer",
    packing=2,
    schedulers=_FLOW_SCHEDULERS,
    takes_negative_prompt=True,
    step_count=50,
    guidance_scale=5.0,
    strength_rounding=StrengthRounding.UP,
    scheduler_kind=SchedulerKind.FLOW,
    schedule_gives=frozenset({"sigmas", "mu"}),
    takes_adapters=True,
)
_QWEN = replace(
    _GUIDED_FLOW,
    honours=honoured.QWEN_IMAGE,
    guidance_needs_negative=True,
    step_count=50,
    guidance_scale=4.0,
    packs_channels=True,
)
FAMILIES: dict[str, Family] = {
    "StableDiffusionPipeline": Family(
        step_model="sd.SdStepModel",
        honours=honoured.SD,
        tasks=_ALL,
        denoiser="unet",
        packing=1,
        schedulers=_DIFFUSION_SCHEDULERS,
        takes_negative_prompt=True,
        step_count=50,
        guidance_scale=7.5,
        edge_px=512,
        takes_adapters=True,
    ),
    "StableDiffusionInpaintPipeline": Family(
        step_model="sd.SdStepModel",
        honours=honoured.SD,
        tasks=_FILL,
        denoiser="unet",
        packing=1,
        schedulers=_DIFFUSION_SCHEDULERS,
        takes_negative_prompt=True,
        step_count=50,
        guidance_scale=7.5,
        edge_px=512,
        takes_adapters=True,
    ),
    "StableDiffusionXLPipeline": Family(
        step_model="sdxl.SdxlStepModel",
        honours=honoured.SDXL,
        tasks=_ALL,
        denoiser="unet",
        packing=1,
        schedulers=_DIFFUSION_SCHEDULERS,
        takes_negative_prompt=True,
        step_count=30,
        guidance_scale=5.0,
        takes_adapters=True,
    ),
    "StableDiffusionXLInpaintPipeline": Family(
        step_model="sdxl.SdxlStepModel",
        honours=honoured.SDXL,
        tasks=_FILL,
        denoiser="unet",
        packing=1,
        schedulers=_DIFFUSION_SCHEDULERS,
        takes_negative_prompt=True,
        step_count=30,
        guidance_scale=7.5,
        takes_adapters=True,
    ),
    "StableDiffusion3Pipeline": Family(
        step_model="sd3.Sd3StepModel",
        honours=honoured.SD3,
        denoisers=_TORCH,
        # The class that fills decodes without the autoencoder's shift.
        tasks=_WITHOUT_FILL,
        denoiser="transformer",
        packing=2,
        schedulers=_FLOW_SCHEDULERS,
        takes_negative_prompt=True,
        step_count=28,
        guidance_scale=7.0,
        strength_rounding=StrengthRounding.UP,
        scheduler_kind=SchedulerKind.FLOW,
        takes_adapters=True,
    ),
    "FluxPipeline": Family(
        step_model="flux.FluxStepModel",
        honours=honoured.FLUX,
        tasks=_ALL,
        denoiser="transformer",
        packing=2,
        schedulers=_FLOW_SCHEDULERS,
        takes_negative_prompt=False,
        step_count=28,
        guidance_scale=3.5,
        embeds_guidance=True,
        packs_channels=True,
        caches_features=True,
        strength_rounding=StrengthRounding.UP,
        scheduler_kind=SchedulerKind.FLOW,
        schedule_gives=frozenset({"sigmas", "mu"}),
        takes_adapters=True,
    ),
    "FluxFillPipeline": Family(
        step_model="flux_fill.FluxFillStepModel",
        honours=honoured.FLUX,
        tasks=_FILL,
        denoiser="transformer",
        packing=2,
        schedulers=_FLOW_SCHEDULERS,
        takes_negative_prompt=False,
        step_count=50,
        guidance_scale=30.0,
        takes_masks=True,
        embeds_guidance=True,
        packs_channels=True,
        caches_features=True,
        strength_rounding=StrengthRounding.UP,
        scheduler_kind=SchedulerKind.FLOW,
        schedule_gives=frozenset({"sigmas", "mu"}),
        takes_adapters=True,
    ),
    "FluxKontextPipeline": Family(
        step_model="flux_kontext.FluxKontextStepModel",
        honours=honoured.FLUX,
        denoisers=_TORCH,
        tasks=_EDITS | _FILL,
        denoiser="transformer",
        packing=2,
        schedulers=_FLOW_SCHEDULERS,
        takes_negative_prompt=False,
        step_count=28,
        guidance_scale=3.5,
        embeds_guidance=True,
        packs_channels=True,
        strength_rounding=StrengthRounding.UP,
        scheduler_kind=SchedulerKind.FLOW,
        schedule_gives=frozenset({"sigmas", "mu"}),
        takes_adapters=True,
    ),
    "Flux2KleinPipeline": Family(
        step_model="flux2_klein.Flux2KleinStepModel",
        honours=honoured.FLUX2,
        denoisers=_TORCH,
        tasks=_EDITS | _FILL,
        denoiser="transformer",
        packing=2,
        schedulers=_FLOW_SCHEDULERS,
        takes_negative_prompt=False,
        step_count=50,
        guidance_scale=4.0,
        packs_channels=True,
        strength_rounding=StrengthRounding.UP,
        scheduler_kind=SchedulerKind.FLOW,
        schedule_gives=frozenset({"sigmas", "mu"}),
        takes_adapters=True,
    ),
    "Flux2Pipeline": replace(
        _GUIDED_FLOW,
        step_model="flux2.Flux2StepModel",
        honours=honoured.FLUX2,
        tasks=_EDITS,
        takes_negative_prompt=False,
        step_count=50,
        guidance_scale=4.0,
        packs_channels=True,
    ),
    "ZImagePipeline": replace(
        _GUIDED_FLOW,
        step_model="z_image.ZImageStepModel",
        honours=honoured.Z_IMAGE,
        tasks=_ALL,
        step_count=50,
        guidance_scale=5.0,
    ),
    "QwenImagePipeline": replace(
        _QWEN,
        step_model="qwen_image.QwenImageStepModel",
        tasks=_ALL,
    ),
    "ChromaPipeline": replace(
        _GUIDED_FLOW,
        step_model="chroma.ChromaStepModel",
        honours=honoured.CHROMA,
        tasks=_ALL,
        step_count=35,
        guidance_scale=5.0,
        packs_channels=True,
    ),
    "SanaPipeline": replace(
        _GUIDED_FLOW,
        step_model="sana.SanaStepModel",
        honours=honoured.SANA,
        packing=1,
        step_count=20,
        guidance_scale=4.5,
        schedule_gives=frozenset(),
    ),
    "QwenImageEditPipeline": replace(
        _QWEN,
        step_model="qwen_image_edit.QwenImageEditStepModel",
        tasks=_EDIT | _FILL,
    ),
    "QwenImageEditPlusPipeline": replace(
        _QWEN,
        step_model="qwen_image_edit.QwenImageEditPlusStepModel",
        tasks=_EDIT,
    ),
    "Lumina2Pipeline": replace(
        _GUIDED_FLOW,
        step_model="lumina2.Lumina2StepModel",
        honours=honoured.LUMINA2,
        step_count=30,
        guidance_scale=4.0,
    ),
    "CogView4Pipeline": replace(
        _GUIDED_FLOW,
        step_model="cogview4.CogView4StepModel",
        honours=honoured.COGVIEW4,
        step_count=50,
        guidance_scale=5.0,
        schedule_gives=frozenset({"timesteps", "sigmas", "mu"}),
    ),
    "OvisImagePipeline": replace(
        _GUIDED_FLOW,
        step_model="ovis_image.OvisImageStepModel",
        honours=honoured.OVIS_IMAGE,
        step_count=50,
        guidance_scale=5.0,
        packs_channels=True,
        # diffusers loads none for it.
        takes_adapters=False,
    ),
    "AuraFlowPipeline": replace(
        _GUIDED_FLOW,
        step_model="aura_flow.AuraFlowStepModel",
        honours=honoured.AURA_FLOW,
        step_count=50,
        guidance_scale=3.5,
        schedule_gives=frozenset(),
    ),
    "PixArtSigmaPipeline": Family(
        step_model="pixart_sigma.PixArtSigmaStepModel",
        honours=honoured.PIXART_SIGMA,
        denoisers=_TORCH,
        tasks=_TEXT_TO_IMAGE,
        denoiser="transformer",
        packing=2,
        schedulers=_DIFFUSION_SCHEDULERS,
        takes_negative_prompt=True,
        step_count=20,
        guidance_scale=4.5,
        strength_rounding=StrengthRounding.UP,
        learns_variance=True,
    ),
    "HiDreamImagePipeline": Family(
        step_model="hidream.HiDreamStepModel",
        honours=honoured.HIDREAM,
        denoisers=_TORCH,
        tasks=_TEXT_TO_IMAGE,
        denoiser="transformer",
        packing=2,
        # The published ones are distilled for their own.
        schedulers=(),
        takes_negative_prompt=True,
        step_count=50,
        guidance_scale=5.0,
        strength_rounding=StrengthRounding.UP,
        bounds_area=True,
        # Published without Llama, which its license keeps apart; nothing runs without it.
        text_encoders=("text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4"),
        scheduler_kind=SchedulerKind.FLOW,
        schedule_gives=frozenset({"mu"}),
        can_run_whole=False,
    ),
}
