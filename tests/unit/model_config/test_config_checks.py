from __future__ import annotations

import pytest

from tests.unit.repository.builders import FLUX_INDEX, HIDREAM_INDEX, Repository

OTHERS = 'license: "MIT"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('name: "n"', ":2:7: error: name is 'n', but the folder is 'm'", id="name"),
        pytest.param(
            "limits { min_size_px: 0 }", ":2:23: error: min_size_px must be 16 to 8192", id="size-0"
        ),
        pytest.param(
            "limits { max_size_px: -5 }", ":2:23: error: max_size_px must be", id="size-negative"
        ),
        pytest.param("limits { max_size_px: 9000 }", "16 to 8192, not 9000", id="size-too-large"),
        pytest.param("limits { max_step_count: 501 }", "1 to 500, not 501", id="steps"),
        pytest.param("limits { max_image_count: 17 }", "1 to 16, not 17", id="images"),
        pytest.param("limits { max_pixel_count: 3 }", "256 to 67108864, not 3", id="pixels"),
        pytest.param(
            "defaults { step_count: 0 }", "step_count must be 1 to 500", id="default-steps"
        ),
        pytest.param("defaults { guidance_scale: nan }", "0 to 100, not nan", id="guidance-nan"),
        pytest.param("defaults { guidance_scale: inf }", "0 to 100, not inf", id="guidance-inf"),
        pytest.param("defaults { strength: 1.5 }", "strength must be 0 to 1", id="strength"),
        pytest.param("defaults { strength: 0 }", "strength must be above 0", id="no-strength"),
        pytest.param("max_queue_size: 0", "max_queue_size must be 1 to", id="queue"),
        pytest.param(
            "max_batch_size: 4 dynamic_batching { preferred_batch_size: [4, 5] }",
            ":2:64: error: preferred_batch_size must be 1 to max_batch_size, which is 4, not 5",
            id="preferred-size-above-the-largest",
        ),
        pytest.param(
            "dynamic_batching { preferred_batch_size: [0] }",
            "which is 8, not 0",
            id="preferred-size-0",
        ),
        pytest.param(
            "dynamic_batching { max_queue_delay_microseconds: 60000001 }",
            ":2:50: error: max_queue_delay_microseconds must be 0 to 60000000",
            id="delay",
        ),
        pytest.param(
            "dynamic_batching { priority_levels: 2 default_priority_level: 3 }",
            ":2:63: error: default_priority_level must be 1 to priority_levels, which is 2, not 3",
            id="default-level-beyond-the-last",
        ),
        pytest.param(
            "dynamic_batching { priority_levels: 2 }",
            "which is 2, not 0",
            id="levels-without-a-default",
        ),
        pytest.param(
            "dynamic_batching { default_priority_level: 1 }",
            "default_priority_level needs priority_levels",
            id="default-without-levels",
        ),
        pytest.param(
            "dynamic_batching { priority_queue_policy { key: 4 value {} } }",
            "priority_queue_policy is for levels 1 to 3, not 4",
            id="policy-of-no-level",
        ),
        pytest.param(
            "vae_tiling_above_px: 100",
            "vae_tiling_above_px must be a multiple of 64 up to 8192, not 100",
            id="tile-off-the-grid",
        ),
        pytest.param("vae_tiling_above_px: -64", "up to 8192, not -64", id="negative-tile"),
        pytest.param('quantization { parts: "vae" }', "needs a method", id="no-method"),
        pytest.param(
            "quantization { method: METHOD_INT8 } storage_dtype: STORAGE_DTYPE_FP8_E4M3",
            ":2:53: error: storage_dtype and quantization exclude each other",
            id="stored-and-quantized",
        ),
        pytest.param(
            "memory_format: MEMORY_FORMAT_CHANNELS_LAST",
            "which REPRODUCIBILITY_EXACT promises",
            id="channels-last-and-solo",
        ),
        pytest.param(
            'traffic_percent { key: "canary" value: 101 }',
            "a share is 0 to 100, not 101",
            id="share",
        ),
        pytest.param(
            'traffic_percent { key: "a" value: 60 } traffic_percent { key: "b" value: 50 }',
            ":2:1: error: the shares are 110 % together",
            id="shares-together",
        ),
        pytest.param(
            'traffic_percent { key: "7" value: 1 }', "must be a word", id="share-of-no-label"
        ),
        pytest.param(
            "model_warmup { batch_size: 17 }", "batch_size must be 1 to 16", id="warm-up-batch"
        ),
        pytest.param(
            "model_warmup { width_px: 100 }",
            "100x1024 is no size that requests may ask for",
            id="warm-up-size",
        ),
        pytest.param("fake { step_s: -1 }", "step_s must be 0 to 3600", id="fake-step"),
        pytest.param("fake { image_s: 4e3 }", "image_s must be 0 to 3600", id="fake-image"),
        pytest.param(
            "fake { step_s_by_rows { key: 0 value: 1 } }",
            "step_s_by_rows must be 1 to 3600, not 0",
            id="fake-rows",
        ),
        pytest.param(
            "version_policy { latest { num_versions: -1 } }",
            ":2:41: error: num_versions",
            id="latest",
        ),
        pytest.param(
            "version_policy { specific { versions: [1, 7] } }",
            ":2:43: error: version 7 is not there, or not whole (there: 1)",
            id="specific-version",
        ),
        pytest.param(
            "version_policy { specific {} }",
            ":2:18: error: names no version",
            id="no-specific-version",
        ),
        pytest.param(
            "limits { min_size_px: 256 max_size_px: 128 }",
            ":2:23: error: min_size_px 256 is above max_size_px 128",
            id="min-above-max",
        ),
        pytest.param(
            "limits { max_size_px: 512 }",
            ":2:23: error: default width_px 1024 is not in the limits 16 to 512",
            id="derived-default-above-limit",
        ),
        pytest.param(
            "defaults { width_px: 100 }",
            ":2:22: error: default width_px 100 is not a multiple of 8",
            id="off-the-grid",
        ),
        pytest.param(
            "limits { max_pixel_count: 1000 }", "1024x1024 has more pixels than", id="area"
        ),
        pytest.param(
            "limits { max_step_count: 9 }",
            "step_count 30 is above max_step_count 9",
            id="max-steps",
        ),
        pytest.param(
            'defaults { scheduler: "DIMScheduler" }',
            ":2:23: error: default scheduler 'DIMScheduler' is not allowed; "
            "did you mean 'DDIMScheduler'?",
            id="default-scheduler",
        ),
        pytest.param(
            'schedulers: ["DDIMScheduler", "FlowMatchEulerDiscreteScheduler"]',
            ":2:31: error: 'FlowMatchEulerDiscreteScheduler' does not fit a "
            "StableDiffusionXLPipeline",
            id="scheduler-of-another-family",
        ),
        pytest.param(
            'parameters: ["prompt", "steps"]',
            ":2:24: error: 'steps' is no request field",
            id="unknown-parameter",
        ),
        pytest.param('aliases: ["a", ""]', ":2:16: error: '' is not a name", id="empty-alias"),
        pytest.param(
            'vocabulary { words: ["a", "Cat"] }',
            ":2:27: error: 'Cat' is not one word in lower case",
            id="word-with-a-capital",
        ),
        pytest.param(
            'vocabulary { words: ["palm tree"] }', "is not one word", id="two-words-as-one"
        ),
        pytest.param(
            'vocabulary { words: "a" example_prompts: ["a", "a cat"] }',
            ":2:48: error: an example has unknown words: 'cat'",
            id="example-of-unknown-words",
        ),
        pytest.param(
            'vocabulary { words: "a" example_prompts: " " }', "an example is empty", id="no-example"
        ),
        pytest.param(
            "trained_sizes { min_size_px: 512 max_size_px: 256 }",
            ":2:1: error: no size is from 512 to 256 px",
            id="no-trained-sizes",
        ),
        pytest.param(
            'version_labels { key: "2" value: 1 }', "label '2' must be a word", id="number-as-label"
        ),
        pytest.param(
            'version_labels { key: "a" value: 1 } version_labels { key: "a" value: 2 }',
            ":2:38: error: a label is set twice",
            id="label-twice",
        ),
        pytest.param(
            "instance_group { count: -1 }", ":2:1: error: count must be at least 1", id="instances"
        ),
    ],
)
def test_a_value_that_makes_no_sense_is_an_error_at_its_line(
    repository: Repository, text: str, expected: str
) -> None:
    repository.pipeline("m")
    repository.config("m", OTHERS + text)
    assert any(expected in error for error in repository.errors()), repository.complaints()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("tasks: TASK_EDIT", "a FluxPipeline cannot do edit", id="task"),
        pytest.param(
            'parameters: "negative_prompt"', "cannot honour 'negative_prompt'", id="parameter"
        ),
    ],
)
def test_a_pipeline_is_not_asked_for_what_it_cannot_do(
    repository: Repository, text: str, expected: str
) -> None:
    repository.pipeline("m", index=FLUX_INDEX)
    repository.config("m", text)
    (error,) = repository.errors()
    assert expected in error


@pytest.mark.parametrize("level", ["EXACT", "TOLERANCE"])
def test_experts_take_every_level(repository: Repository, level: str) -> None:
    repository.pipeline("m", index=HIDREAM_INDEX)
    repository.config("m", OTHERS + f"reproducibility: REPRODUCIBILITY_{level}")
    assert repository.errors() == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            'version_labels { key: "canary" value: 9 }\nversion_labels { key: "b" value: 2 }',
            "m/config.pbtxt:2:1: warning: label 'canary' points at version 9, which is not there",
            id="label-of-no-version",
        ),
        pytest.param(
            'version_labels { key: "old" value: 1 }',
            "which does not serve (serving: 2)",
            id="label",
        ),
        pytest.param(
            "dynamic_batching {}",
            ":2:1: warning: 'dynamic_batching' has no effect on a StableDiffusionXLPipeline",
            id="window-of-a-model-that-shares-steps",
        ),
        pytest.param("fake { step_s: 1 }", "without backend: BACKEND_FAKE", id="fake-of-nothing"),
        pytest.param('aliases: ["a", "a"]', ":2:16: warning: 'a' is named twice", id="alias-twice"),
        pytest.param(
            'vocabulary { words: ["a", "a"] }',
            ":2:27: warning: 'a' is named twice",
            id="word-twice",
        ),
        pytest.param(
            'vocabulary { example_prompts: "a" }', "have no effect without words", id="no-words"
        ),
        pytest.param(
            "trained_sizes { max_size_px: 512 } defaults { width_px: 1024 }",
            "warning: width_px 1024 is none of trained_sizes",
            id="untrained-default",
        ),
    ],
)
def test_what_only_has_no_effect_is_a_warning_and_the_model_serves(
    repository: Repository, text: str, expected: str
) -> None:
    repository.pipeline("m", 1)
    repository.pipeline("m", 2)
    repository.config("m", OTHERS + text)
    assert repository.errors() == []
    assert any(expected in complaint for complaint in repository.complaints())
    assert repository.model().serving == (2,)


def test_a_whole_config_has_no_problem(repository: Repository) -> None:
    repository.pipeline("m")
    repository.config(
        "m",
        """
        name: "m"
        aliases: ["org/Repo", "short"]
        defaults { width_px: 512 height_px: 512 step_count: 20 scheduler: "DDIMScheduler" }
        limits { min_size_px: 64 max_size_px: 512 max_step_count: 100 max_image_count: 4 }
        schedulers: ["DDIMScheduler"]
        version_labels { key: "stable" value: 1 }
        """,
    )
    assert repository.complaints() == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "denoiser: DENOISER_ONNXRUNTIME denoiser_options { compute: DTYPE_BF16 }",
            "compute does nothing with DENOISER_ONNXRUNTIME (used there: weights)",
            id="option-of-another",
        ),
        pytest.param(
            "denoiser: DENOISER_OPENVINO denoiser_options { compute: DTYPE_FP16 }",
            "compute must be DTYPE_FP32 or DTYPE_BF16",
            id="fp16",
        ),
        pytest.param(
            "denoiser: DENOISER_OPENVINO dtype: DTYPE_BF16",
            "dtype must be DTYPE_FP32 or left out with DENOISER_OPENVINO",
            id="dtype",
        ),
        pytest.param(
            "denoiser: DENOISER_TORCH_COMPILE offload: OFFLOAD_MODEL",
            "offload needs DENOISER_TORCH, not DENOISER_TORCH_COMPILE",
            id="offload",
        ),
        pytest.param(
            'denoiser_options { attention_backend: "native" }',
            "attention_backend is for these: FluxPipeline",
            id="attention-of-a-unet",
        ),
        pytest.param(
            "denoiser: DENOISER_TORCH_COMPILE "
            "denoiser_options { compiled_size { width_px: 100 height_px: 64 } }",
            "100x64 is no size of this model",
            id="size",
        ),
        pytest.param(
            "denoiser: DENOISER_ONNXRUNTIME",
            "warning: cannot be loaded: Nothing has been exported for onnxruntime: "
            "run darkroom export m --version 1 --to onnx.",
            id="not-exported",
        ),
    ],
)
def test_denoisers_that_cannot_be(repository: Repository, text: str, expected: str) -> None:
    repository.pipeline("m", 1)
    repository.config("m", OTHERS + text + "\n")
    assert expected in "\n".join(repository.complaints())


@pytest.mark.parametrize("kind", ["TORCH_COMPILE", "ONNXRUNTIME", "OPENVINO"])
def test_hidream_has_torch_only(repository: Repository, kind: str) -> None:
    repository.pipeline("m", 1, index=HIDREAM_INDEX)
    repository.config("m", f"denoiser: DENOISER_{kind}\n")
    expected = f"cannot run with DENOISER_{kind}: torch cannot compile its blocks one by one"
    assert expected in "\n".join(repository.complaints())
