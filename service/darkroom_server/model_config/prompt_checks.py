"""Checks of the program that rewrites a model's prompts."""

from __future__ import annotations

import math
from urllib.parse import urlsplit

from darkroom_server.domain.problems import ProblemLog, quoted
from darkroom_server.domain.prompt_upsampling import MAX_TIMEOUT_S
from darkroom_server.model_config.config_file import ConfigFile

_FIELD = "prompt_upsampling"


def check_prompt_upsampling(config: ConfigFile, problems: ProblemLog) -> None:
    """Whether it names one program, and a time in which it can answer."""
    given = config.settings.prompt_upsampling
    if given.command and given.url:
        config.error(problems, "names a command and a url: only one can be asked", _FIELD)
    if given.command and not given.command[0]:
        config.error(problems, "the command's name is empty", _FIELD, "command")
    if given.url and not _is_http(given.url):
        config.error(problems, f"{quoted(given.url)} is no http or https URL", _FIELD, "url")
    if not (math.isfinite(given.timeout_s) and 0 < given.timeout_s <= MAX_TIMEOUT_S):
        text = f"{given.timeout_s:g} s is not above 0 and at most {MAX_TIMEOUT_S:g}"
        config.error(problems, text, _FIELD, "timeout_s")


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
