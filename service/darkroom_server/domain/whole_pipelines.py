"""Which pipelines without a family can be run whole, for which tasks, and why others cannot. Pure.

A class is classified by the arguments and results of its `__call__`. What signatures do not show is
in the tables below; a test builds a pipeline of every class and compares.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from darkroom_server.domain.jobs import Task
from darkroom_server.domain.pipeline_call import PipelineCall
from darkroom_server.domain.references import BESIDE_RULES, REFERENCE_RULES, ReferenceRule

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
    OTHER_RUNTIME = "export the pipeline with optimum for OpenVINO, or serve its torch weights"
    MISSING_PACKAGE = "install the package beside the server"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a class is not run: `reason` goes on from its name."""

    kind: RefusalKind
    reason: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.kind.value}"


#: What a class fails without, though its signature has a default.
NEEDS: Final[Mapping[str, str]] = {
    "StableDiffusionDiffEditPipeline": "inverted latents",
    "StableDiffusionXLControlNetUnionImg2ImgPipeline": "control_mode",
    "StableDiffusionXLControlNetUnionInpaintPipeline": "control_mode",
    "StableDiffusionXLControlNetUnionPipeline": "control_mode",
    "StableDiffusionGLIGENPipeline": "gligen_phrases",
    "StableDiffusionGLIGENTextImagePipeline": "gligen_phrases",
}
#: What a class must be given that requests have no word for, where one value is the usual one: a
#: picture to change is described by no words but the prompt's.
USUAL_VALUES: Final[Mapping[str, Mapping[str, str]]] = {
    "CycleDiffusionPipeline": {"source_prompt": ""},
}
#: Classes whose prompt is a JSON object, and what has to be in it.
JSON_PROMPTS: Final[Mapping[str, str]] = {"BriaFiboEditPipeline": "edit_instruction"}
#: Settings that a class reads off its transformer's config, which is made without them.
UNSAID_SETTINGS: Final[Mapping[str, Mapping[str, bool]]] = {
    "ChromaInpaintPipeline": {"guidance_embeds": False},
}
#: What a class cannot be made without, though diffusers has it: packages that may be installed.
NEEDS_PACKAGE: Final[Mapping[str, str]] = {
    "Cosmos2TextToImagePipeline": "cosmos_guardrail",
    "OmniGenPipeline": "torchvision",
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
    given = _GIVEN | USUAL_VALUES.get(class_name, {}).keys()
    needed = [*sorted(call.required - given), *filter(None, [NEEDS.get(class_name)])]
    if needed:
        return Refusal(RefusalKind.OTHER_VALUE, f"needs {needed[0]}, which no request has")
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


def trial_prompt(class_name: str) -> str:
    """The least that a class takes for a prompt."""
    wanted = JSON_PROMPTS.get(class_name)
    return "" if wanted is None else json.dumps({wanted: ""})


def lacks_of_prompt(class_name: str, prompt: str) -> str | None:
    """What a prompt that a class cannot read should be, or None for one that it can."""
    wanted = JSON_PROMPTS.get(class_name)
    if wanted is None:
        return None
    try:
        said = json.loads(prompt)
    except (ValueError, RecursionError):
        said = None
    if isinstance(said, dict) and wanted in said:
        return None
    return f'a {class_name} takes a JSON object that says "{wanted}"'


def beside_of(call: PipelineCall) -> str | None:
    """What a class calls the picture that it takes beside the one to change."""
    return call.first_of(*BESIDE_RULES) if "image" in call.arguments else None


def reference_rule(class_name: str, call: PipelineCall) -> ReferenceRule | None:
    """How many reference images a class takes, alone or beside the image to change."""
    rule, beside = REFERENCE_RULES.get(class_name), beside_of(call)
    return BESIDE_RULES[beside] if rule is None and beside is not None else rule


def guidance_names(call: PipelineCall) -> tuple[str, ...]:
    """What a class calls the guidance, the one that a caller means first; none if it takes none."""
    named = call.first_of(*GUIDANCE)
    if call.numbers.get(TRUE_GUIDANCE, 0) > 1:
        return (TRUE_GUIDANCE, *([named] if named else []))
    return (named,) if named else ()
