"""What a config says of what its model was trained on: words and sizes."""

from __future__ import annotations

from darkroom.v1 import model_config_pb2
from darkroom_server.domain.trained_sizes import TrainedSizes
from darkroom_server.domain.vocabulary import Vocabulary


def vocabulary_of(message: model_config_pb2.ModelConfig) -> Vocabulary:
    """The words and examples of a config, as they are written."""
    given = message.vocabulary
    return Vocabulary(words=tuple(given.words), example_prompts=tuple(given.example_prompts))


def trained_sizes_of(message: model_config_pb2.ModelConfig) -> TrainedSizes:
    """The sizes of a config, as they are written."""
    given = message.trained_sizes
    return TrainedSizes(min_size_px=given.min_size_px, max_size_px=given.max_size_px)
