"""Checks of what a config says that its model was trained on."""

from __future__ import annotations

from darkroom_server.domain.problems import ProblemLog, quoted
from darkroom_server.domain.vocabulary import said_words
from darkroom_server.model_config.config_file import ConfigFile


def check_vocabulary(config: ConfigFile, problems: ProblemLog) -> None:
    """Whether each word is one that a prompt can have, and the examples are made of them."""
    vocabulary = config.settings.vocabulary
    for i, word in enumerate(vocabulary.words):
        path = ("vocabulary", "words")
        if said_words(word) != [word]:
            config.error(problems, f"{quoted(word)} is not one word in lower case", *path, index=i)
        elif word in vocabulary.words[:i]:
            config.warning(problems, f"{quoted(word)} is named twice", *path, index=i)
    for i, prompt in enumerate(vocabulary.example_prompts):
        path = ("vocabulary", "example_prompts")
        unknown = vocabulary.unknown_in(prompt)
        if not prompt.strip():
            config.error(problems, "an example is empty", *path, index=i)
        elif unknown:
            listed = ", ".join(quoted(word) for word in unknown)
            config.error(problems, f"an example has unknown words: {listed}", *path, index=i)
    if vocabulary.example_prompts and not vocabulary.words:
        config.warning(problems, "example_prompts have no effect without words", "vocabulary")


def check_trained_sizes(config: ConfigFile, problems: ProblemLog) -> None:
    """Whether they are sizes, the default one among them."""
    sizes, defaults = config.settings.trained_sizes, config.settings.defaults
    if min(sizes.min_size_px, sizes.max_size_px) < 0 or 0 < sizes.max_size_px < sizes.min_size_px:
        config.error(
            problems,
            f"no size is from {sizes.min_size_px} to {sizes.max_size_px} px",
            "trained_sizes",
        )
        return
    for field in ("width_px", "height_px"):
        size_px: int | None = getattr(defaults, field)
        if size_px is not None and not sizes.has(size_px):
            text = f"{field} {size_px} is none of trained_sizes"
            config.warning(problems, text, "defaults", field)
