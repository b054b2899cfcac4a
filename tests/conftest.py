from __future__ import annotations

from hypothesis import settings

# A busy machine is no failure: how long an example may take is left to pytest's own timeout.
settings.register_profile("darkroom", deadline=None)
settings.load_profile("darkroom")
