from __future__ import annotations

import pytest

from darkroom.v1 import model_service_pb2
from darkroom_server.domain.dynamic_batching import DynamicBatching, QueuePolicy, TimeoutAction
from darkroom_server.domain.fake_pace import FakePace
from darkroom_server.domain.jobs import Task
from darkroom_server.domain.memory import MemoryProfile, Offload, Quantization, StorageDtype
from darkroom_server.domain.models import BackendKind, DeviceKind, Dtype
from darkroom_server.domain.problems import Problem, ProblemLog
from darkroom_server.domain.trained_sizes import TrainedSizes
from darkroom_server.domain.vocabulary import Vocabulary
from darkroom_server.model_config.config_file import MAX_CONFIG_BYTES, read_config
from darkroom_server.model_config.settings import (
    AllVersions,
    DefaultSettings,
    InstanceGroupSettings,
    LatestVersions,
    LimitSettings,
    ModelSettings,
    SpecificVersions,
    VersionPolicy,
)


def settings_of(text: str) -> ModelSettings:
    problems = ProblemLog("m")
    config = read_config(text.encode(), shown="m/config.pbtxt", problems=problems)
    assert problems.problems == []
    assert config is not None
    return config.settings


def problems_of(content: str | bytes) -> list[Problem]:
    problems = ProblemLog("m")
    data = content.encode() if isinstance(content, str) else content
    config = read_config(data, shown="m/config.pbtxt", problems=problems)
    assert (config is None) == bool(problems.error_count)
    return problems.problems


EVERY_FIELD = """
name: "m" display_name: "M" max_batch_size: 4 max_queue_size: 9
version_policy { latest { num_versions: 2 } }
instance_group [ { count: 2 kind: KIND_GPU gpus: [0, 1] } ]
aliases: ["a", "b"]
hub { repo_id: "org/repo" revision: "main" }
tasks: [TASK_FILL, TASK_TEXT_TO_IMAGE]
defaults { width_px: 64 height_px: 32 step_count: 5 guidance_scale: 0 scheduler: "S"
           strength: 0.5 preserve_unmasked: false }
limits { min_size_px: 16 max_size_px: 128 max_pixel_count: 4096 max_step_count: 9
         max_image_count: 2 }
schedulers: "S" parameters: "prompt" dtype: DTYPE_BF16
version_labels { key: "stable" value: 3 } version_labels { key: "canary" value: 4 }
dynamic_batching { preferred_batch_size: [4, 8] max_queue_delay_microseconds: 100000
  priority_levels: 4 default_priority_level: 3
  default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 2000000
                         allow_timeout_override: true max_queue_size: 5 }
  priority_queue_policy { key: 4 value { default_timeout_microseconds: 500000 } } }
quantization { method: METHOD_INT8_WEIGHTS parts: "text_encoder_2" }
storage_dtype: STORAGE_DTYPE_FP8_E5M2 offload: OFFLOAD_GROUP vae_tiling_above_px: 512
memory_format: MEMORY_FORMAT_CHANNELS_LAST
vocabulary { words: ["a", "cat"] example_prompts: "a cat" }
trained_sizes { min_size_px: 64 max_size_px: 4096 }
license: "MIT" backend: BACKEND_FAKE fake { step_s: 0.5 load_s: 2
  step_s_by_rows { key: 8 value: 1.5 } image_s: 0.1 pixel_count: 4096 }
"""


EVERY_BATCHING = DynamicBatching(
    preferred_batch_sizes=(4, 8),
    max_queue_delay_s=0.1,
    priority_levels=4,
    default_priority_level=3,
    default_queue_policy=QueuePolicy(
        timeout_action=TimeoutAction.DELAY, timeout_s=2.0, max_queue_size=5
    ),
    queue_policies=((4, QueuePolicy(timeout_s=0.5)),),
)
EVERY_MEMORY = MemoryProfile(
    quantization=Quantization.INT8_WEIGHTS,
    quantized_parts=("text_encoder_2",),
    storage=StorageDtype.FP8_E5M2,
    offload=Offload.GROUP,
    vae_tiling_px=512,
    channels_last=True,
)


def test_every_field_is_read() -> None:
    assert settings_of(EVERY_FIELD) == ModelSettings(
        name="m",
        display_name="M",
        max_batch_size=4,
        version_policy=LatestVersions(2),
        instance_groups=(InstanceGroupSettings(count=2, device=DeviceKind.GPU, gpus=(0, 1)),),
        max_queue_size=9,
        aliases=("a", "b"),
        hub_id="org/repo",
        tasks=(Task.FILL, Task.TEXT_TO_IMAGE),
        defaults=DefaultSettings(
            width_px=64,
            height_px=32,
            step_count=5,
            guidance_scale=0.0,
            scheduler="S",
            strength=0.5,
            preserve_unmasked=False,
        ),
        limits=LimitSettings(
            min_size_px=16,
            max_size_px=128,
            max_pixel_count=4096,
            max_step_count=9,
            max_image_count=2,
        ),
        schedulers=("S",),
        parameters=("prompt",),
        dtype=Dtype.BF16,
        version_labels=(("canary", 4), ("stable", 3)),
        dynamic_batching=EVERY_BATCHING,
        memory=EVERY_MEMORY,
        license="MIT",
        backend=BackendKind.FAKE,
        fake=FakePace(
            step_s=0.5,
            load_s=2.0,
            step_s_by_rows=((8, 1.5),),
            image_s=0.1,
            pixel_count=4096,
        ),
        vocabulary=Vocabulary(words=("a", "cat"), example_prompts=("a cat",)),
        trained_sizes=TrainedSizes(min_size_px=64, max_size_px=4096),
    )


def test_what_is_not_written_is_unset_and_a_written_zero_is_kept() -> None:
    assert settings_of('license: "MIT"').defaults == DefaultSettings()
    assert settings_of("defaults { step_count: 0 }").defaults.step_count == 0


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        pytest.param('license: "x"', LatestVersions(1), id="unset-is-the-latest"),
        pytest.param("version_policy { latest {} }", LatestVersions(1), id="latest-is-one"),
        pytest.param("version_policy { all {} }", AllVersions(), id="all"),
        pytest.param(
            "version_policy: { specific: { versions: [1, 3] } }",
            SpecificVersions((1, 3)),
            id="specific",
        ),
    ],
)
def test_the_version_policy_is_read(text: str, policy: VersionPolicy) -> None:
    assert settings_of(text).version_policy == policy


@pytest.mark.parametrize(
    ("text", "at", "parts"),
    [
        pytest.param(
            'license: "x"\n  nmae: "m"',
            (2, 3),
            ["unknown field 'nmae'", "did you mean 'name'?", "display_name"],
            id="unknown-field",
        ),
        pytest.param(
            "limits { max_siz_px: 64 }",
            (1, 10),
            ["unknown field 'max_siz_px'", "did you mean 'max_size_px'?", "max_step_count"],
            id="unknown-field-knows-its-message",
        ),
        pytest.param(
            "version_policy { latest { number: 1 } }",
            (1, 27),
            ["known here: num_versions"],
            id="unknown-field-two-messages-deep",
        ),
        pytest.param(
            "dtype: DTYPE_FP61",
            (1, 8),
            ["did you mean 'DTYPE_FP16'?", "allowed: DTYPE_FP32, DTYPE_FP16, DTYPE_BF16"],
            id="unknown-enum-value",
        ),
        pytest.param("dtype: 9999999999", (1, 8), ["allowed: DTYPE_FP32"], id="huge-enum-number"),
        pytest.param("dtype: 77", (1, 8), ["'77'", "DTYPE_FP32"], id="unknown-enum-number"),
        pytest.param(
            "tasks: [TASK_UNSPECIFIED]", (1, 9), ["TASK_FILL"], id="an-item-that-says-nothing"
        ),
        pytest.param("dtype: fp32", (1, 8), ["DTYPE_FP32"], id="enum-value-in-lower-case"),
        pytest.param(
            'max_batch_size: "four"',
            (1, 17),
            ["takes a whole number", "four"],
            id="text-for-number",
        ),
        pytest.param(
            "dynamic_batching { max_queue_delay_microseconds: -1 }",
            (1, 50),
            ["takes a whole number, not '-1'"],
            id="negative-delay",
        ),
        pytest.param("max_batch_size: 1.5", (1, 17), ["takes a whole number"], id="fraction"),
        pytest.param(
            "max_batch_size: 99999999999", (1, 17), ["takes a whole number"], id="out-of-range"
        ),
        pytest.param("name: 5", (1, 7), ["takes text in quotes, not '5'"], id="number-for-text"),
        pytest.param("limits: 5", (1, 9), ["group of fields in braces"], id="number-for-message"),
        pytest.param('name: "a"\nname: "b"', (2, 1), ["'name' is set twice"], id="duplicate"),
        pytest.param(
            "max_batch_size: 0 max_batch_size: 0", (1, 19), ["set twice"], id="duplicate-zero"
        ),
        pytest.param(
            "version_policy { all {} latest {} }", (1, 25), ["all", "latest"], id="two-of-a-choice"
        ),
        pytest.param("name:", (1, 6), [], id="value-missing"),
        pytest.param('name: "a', (1, 7), [], id="unclosed-quote"),
        pytest.param("limits { min_size_px: 16", (1, 23), ['Expected "}"'], id="unclosed-brace"),
        pytest.param("}", (1, 1), [], id="stray-brace"),
        pytest.param(b'name: "a"\nname: "\xff"', (2, 8), ["not UTF-8", "0xff"], id="not-utf-8"),
        pytest.param(b"\xef\xbb\xbfname: 'a'", (1, 1), ["byte order mark"], id="byte-order-mark"),
    ],
)
def test_an_error_points_at_its_place(
    text: str | bytes, at: tuple[int, int], parts: list[str]
) -> None:
    (problem,) = problems_of(text)
    assert str(problem).startswith(f"m/config.pbtxt:{at[0]}:{at[1]}: error: ")
    for part in parts:
        assert part in problem.message


def test_an_error_shows_the_line_with_a_caret() -> None:
    (problem,) = problems_of("# first\nlimits { max_siz_px: 64 }")
    assert problem.excerpt == "limits { max_siz_px: 64 }\n         ^"


def test_all_mistakes_of_a_file_are_told_at_once() -> None:
    problems = problems_of('nmae: "m"\ndtype: DTYPE_FP9\nlicense: "a" license: "b"')
    assert [problem.at.line for problem in problems if problem.at] == [1, 2, 3]


@pytest.mark.parametrize(
    "text", [pytest.param("", id="no-bytes"), pytest.param("# later\n\n", id="only-a-comment")]
)
def test_an_empty_file_is_read_with_a_warning(text: str) -> None:
    (problem,) = problems_of(text)
    assert "warning: is empty" in str(problem)


def test_a_file_of_absurd_size_is_refused() -> None:
    (problem,) = problems_of(b"#" * (MAX_CONFIG_BYTES + 1))
    assert "is larger than" in problem.message


def test_every_task_of_the_contract_is_known() -> None:
    names = set(model_service_pb2.Model.Task.DESCRIPTOR.values_by_name) - {"TASK_UNSPECIFIED"}
    tasks = ", ".join(sorted(names))
    assert set(settings_of(f"tasks: [{tasks}]").tasks) == set(Task)
