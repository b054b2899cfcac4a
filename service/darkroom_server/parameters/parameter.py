"""What is to be said of one field of a request."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from darkroom_server.domain.jobs import Task


class Kind(enum.Enum):
    """What values are of; the value is what the reference page calls it."""

    TEXT = "text"
    #: Of a model, a version or a scheduler.
    NAME = "name"
    WHOLE = "whole number"
    NUMBER = "number"
    FLAG = "true or false"
    #: One word of a closed list.
    CHOICE = "choice"
    PICTURE = "encoded image"
    PICTURES = "encoded images"
    ADAPTERS = "adapters with weights"


class Support(enum.Enum):
    """Who honours a parameter, and whether models list it as theirs."""

    #: The service, whatever the model: models do not list it.
    SERVICE = "service"
    #: Every model of the parameter's tasks; no configuration takes it away.
    ALWAYS = "always"
    #: The same, but where a configuration takes it away it is no longer listed, and still honoured.
    LISTED = "listed"
    #: Every model of the parameter's tasks, unless its configuration takes it away.
    MODEL = "model"
    #: Models whose family honours it, and pipelines that run whole, with the same exception.
    FAMILY = "family"
    #: Models whose family honours it and whose requests share steps, with the same exception.
    STEPS = "steps"


#: Honoured by whatever does the parameter's tasks.
EVERY_FAMILY = frozenset({Support.ALWAYS, Support.LISTED, Support.MODEL})
#: Honoured by pipelines that run whole.
WITHOUT_STEPS = EVERY_FAMILY | {Support.FAMILY}


class Default(enum.Enum):
    """Where the value of a parameter comes from that nobody set, if it is not always the same."""

    #: The model's `Defaults`, by the parameter's own name.
    MODEL = "model"
    #: Nothing is done.
    NONE = "none"


EVERY_TASK = frozenset(Task)
#: Of requests that bring an image.
WITH_IMAGE = frozenset({Task.IMAGE_TO_IMAGE, Task.FILL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One field of `darkroom.v1`'s GenerateRequest and FillRequest; `path` is its path there.

    Values reach from `lowest` to `highest`, `above_lowest` without the former. A model's own bounds
    are the fields of its `Limits` named by `model_lowest`, `model_highest` and `model_step`.
    `choices` are the words of a CHOICE.

    `meaning` is a sentence for people, `unset` what holds where nothing is said. `http` are the
    names in the bodies of all HTTP dialects, the first of which errors use; `python` is the
    argument of the Python client, `flag` the option of `darkroom generate` and `fill`, and
    `flag_help` its help where `meaning` would not do.
    """

    path: str
    kind: Kind
    meaning: str
    support: Support = Support.SERVICE
    tasks: frozenset[Task] = EVERY_TASK
    unit: str = ""
    lowest: float | None = None
    highest: float | None = None
    above_lowest: bool = False
    model_lowest: str = ""
    model_highest: str = ""
    model_step: str = ""
    default: Default | float = Default.NONE
    unset: str = ""
    choices: Mapping[str, enum.Enum] = field(default_factory=dict)
    http: tuple[str, ...] = ()
    python: str = ""
    flag: str = ""
    flag_help: str = ""

    @property
    def group(self) -> str:
        """The message that the field is in; empty for those of the request itself."""
        return self.path.rpartition(".")[0]

    @property
    def leaf(self) -> str:
        """The field's own name."""
        return self.path.rpartition(".")[2]

    @property
    def name(self) -> str:
        """What models list, and warnings name: the field of the request itself."""
        return self.path.partition(".")[0]

    @property
    def is_listed(self) -> bool:
        """Whether models say if they honour it."""
        return self.support is not Support.SERVICE

    @property
    def can_be_refused(self) -> bool:
        """Whether there are models that do not honour it, though they do a task of it."""
        return self.support in (Support.MODEL, Support.FAMILY, Support.STEPS)

    @property
    def needs_image(self) -> bool:
        """Whether only requests that bring an `image` have it."""
        return self.tasks <= WITH_IMAGE
