"""Which pipelines without a family can be run whole, for which tasks, and why others cannot. Pure.

A class is classified by the arguments and results of its `__call__`. What signatures do not show is
in the tables below; a test builds a pipeline of every class and compares.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from darkroom_server.domain.jobs import Task
from darkroom_server.domain.pipeline_call import PipelineCall
from darkroom_server.domain.references import REFERENCE_RULES

#: What classes call the guidance; of two, the first is the one that a caller means.
GUIDANCE: Final = ("guidance_scale", "prior_guidance_scale", "distilled_guidance_scale")
#: What some call it instead, whose `guidance_scale` is of distilled weights only.
TRUE_GUIDANCE: Final = "true_cfg_scale"
#: What classes call the picture of a request, and its mask.
PICTURES: Final = ("image", "control_image", "input_images")
MASKS: Final = ("mask_image", "control_mask")
#: What classes call the number of steps.
STEPS: Final = ("num_inference_steps", "decoder_num_inference_steps")

#: Arguments of pipelines that make something else, or make it of something else.
_FOREIGN = ("num_frames", "video_length", "frames", "video", "control_video", "audio_length_in_s")
_GIVEN = frozenset(
    {"prompt", "width", "height", "generator", "strength", *STEPS, *PICTURES, *MASKS}
)
#: Fields of outputs that hold pictures.
_PICTURE_FIELDS = frozenset({"", "images", "image"})

#: What classes make whose code does not say so.
_GIVES = {"ShapEPipeline": "shapes", "WuerstchenPriorPipeline": "embeddings"}


class RefusalKind(enum.Enum):
    """Every reason for which a pipeline is not run; the value is what would help."""

    NO_PICTURE = "Darkroom makes pictures only"
    NO_TEXT = "requests describe pictures in words"
    NO_SEED = "a request's seed decides its picture"
    NO_STEPS = "requests say how many steps are made"
    OTHER_VALUE = "use a pipeline that does without it"
    TWO_PICTURES = "use the pipeline with a control picture alone, or with a picture alone"
    OTHER_RUNTIME = "export the pipeline with optimum for OpenVINO, or serve its torch weights"
    MISSING_PACKAGE = "install the package beside the server"
    BROKEN = "use another pipeline, or wait for a later diffusers"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a class is not run: `reason` goes on from its name."""

    kind: RefusalKind
    reason: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.kind.value}"


#: What a class fails without, though its signature has a default.
NEEDS: Final[Mapping[str, str]] = {
    "BriaFiboEditPipeline": "a prompt in JSON",
    "StableDiffusionDiffEditPipeline": "inverted latents",
    "StableDiffusionXLControlNetUnionPipeline": "control_mode",
    "StableDiffusionGLIGENPipeline": "gligen_phrases",
    "StableDiffusionGLIGENTextImagePipeline": "gligen_phrases",
    "IFImg2ImgSuperResolutionPipeline": "original_image",
    "IFInpaintingSuperResolutionPipeline": "original_image",
}
#: What a class cannot be made without, though diffusers has it: packages that may be installed.
NEEDS_PACKAGE: Final[Mapping[str, str]] = {
    "Cosmos2TextToImagePipeline": "cosmos_guardrail",
    "OmniGenPipeline": "torchvision",
}
#: Classes that fail with the diffusers and transformers that are installed with this release.
BROKEN: Final[Mapping[str, str]] = {
    "ChromaInpaintPipeline": "asks its transformer for guidance_embeds, which Chroma's has not",
}

#: Classes that are served, but of which no small pipeline has been built and compared.
UNTRIED: Final = frozenset(
    {
        "AltDiffusionImg2ImgPipeline",
        "StableDiffusionParadigmsPipeline",
        "StableDiffusionAdapterPipeline",
        "StableDiffusionControlNetXSPipeline",
        "StableDiffusionLatentUpscalePipeline",
        "StableDiffusionXLAdapterPipeline",
        "StableDiffusionXLControlNetXSPipeline",
        "AltDiffusionPipeline",
        "DreamLiteMobilePipeline",
        "DreamLitePipeline",
        "ErnieImagePipeline",
        "Flux2Pipeline",
        "GlmImagePipeline",
        "HunyuanImageRefinerPipeline",
        "Ideogram4Pipeline",
        "JoyImageEditPipeline",
        "Kandinsky5I2IPipeline",
        "Kandinsky5T2IPipeline",
        "KandinskyCombinedPipeline",
        "KandinskyImg2ImgCombinedPipeline",
        "KandinskyInpaintCombinedPipeline",
        "Krea2Pipeline",
        "LongCatImageEditPipeline",
        "LongCatImagePipeline",
        "NucleusMoEImagePipeline",
        "PRXPipeline",
        "PRXPixelPipeline",
        "QwenImageEditInpaintPipeline",
        "QwenImageLayeredPipeline",
        "StableCascadeCombinedPipeline",
        "StableUnCLIPImg2ImgPipeline",
        "StableUnCLIPPipeline",
        "UnCLIPPipeline",
        "UniDiffuserPipeline",
        "VQDiffusionPipeline",
        "VersatileDiffusionDualGuidedPipeline",
        "VersatileDiffusionTextToImagePipeline",
        "WuerstchenCombinedPipeline",
        "ZImageControlNetPipeline",
        "ZImageOmniPipeline",
    }
)


def refusal_of(class_name: str, call: PipelineCall) -> Refusal | None:
    """Why a class is not run, or None when it is."""
    if class_name.startswith(("Onnx", "Flax")) or class_name == "StableDiffusionOnnxPipeline":
        return Refusal(RefusalKind.OTHER_RUNTIME, "runs on another runtime than torch")
    foreign = call.first_of(*_FOREIGN)
    gives = _GIVES.get(class_name, call.gives)
    if gives not in _PICTURE_FIELDS:
        return Refusal(RefusalKind.NO_PICTURE, f"makes {gives}")
    if foreign is not None:
        return Refusal(RefusalKind.NO_PICTURE, f"takes {foreign}")
    if "prompt" not in call.arguments:
        return Refusal(RefusalKind.NO_TEXT, "takes no prompt")
    if "generator" not in call.arguments:
        return Refusal(RefusalKind.NO_SEED, "takes no generator")
    if call.first_of(*STEPS) is None:
        return Refusal(RefusalKind.NO_STEPS, f"takes no {STEPS[0]}")
    needed = [*sorted(call.required - _GIVEN), *filter(None, [NEEDS.get(class_name)])]
    if needed:
        return Refusal(RefusalKind.OTHER_VALUE, f"needs {needed[0]}, which no request has")
    if {"image", "control_image"} <= call.arguments:
        return Refusal(RefusalKind.TWO_PICTURES, "takes image and control_image; a request has one")
    if class_name in BROKEN:
        return Refusal(RefusalKind.BROKEN, BROKEN[class_name])
    return None


def tasks_of(class_name: str, call: PipelineCall) -> frozenset[Task]:
    """What a class that is run does."""
    if call.first_of(*PICTURES) is None:
        return frozenset({Task.TEXT_TO_IMAGE})
    if call.first_of(*MASKS) is not None:
        return frozenset({Task.FILL})
    rule = REFERENCE_RULES.get(class_name)
    if rule is not None:
        return frozenset({Task.EDIT} if rule.is_required else {Task.TEXT_TO_IMAGE, Task.EDIT})
    return frozenset({Task.IMAGE_TO_IMAGE})


def guidance_names(call: PipelineCall) -> tuple[str, ...]:
    """What a class calls the guidance, the one that a caller means first; none if it takes none."""
    named = call.first_of(*GUIDANCE)
    if call.numbers.get(TRUE_GUIDANCE, 0) > 1:
        return (TRUE_GUIDANCE, *([named] if named else []))
    return (named,) if named else ()
