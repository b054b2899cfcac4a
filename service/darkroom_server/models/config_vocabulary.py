"""What a config says of the words that its model was taught."""

from __future__ import annotations

from darkroom.v1 import model_config_pb2
from darkroom_server.domain.vocabulary import Vocabulary


def vocabulary_of(message: model_config_pb2.ModelConfig) -> Vocabulary:
    """The words and examples of a config, as they are written."""
    told = message.vocabulary
    return Vocabulary(words=tuple(told.words), example_prompts=tuple(told.example_prompts))
