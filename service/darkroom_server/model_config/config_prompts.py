"""What a config says of the program that rewrites its model's prompts."""

from __future__ import annotations

from darkroom.v1 import model_config_pb2
from darkroom_server.domain.prompt_upsampling import DEFAULT_TIMEOUT_S, PromptUpsampling


def prompt_upsampling_of(message: model_config_pb2.ModelConfig) -> PromptUpsampling:
    """The program of a config, as it is written."""
    given = message.prompt_upsampling
    return PromptUpsampling(tuple(given.command), given.url, given.timeout_s or DEFAULT_TIMEOUT_S)
