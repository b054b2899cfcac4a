"""Imported once by the fork server, so that torch and diffusers are already imported in workers.

Nothing here may touch a device or start a thread: every worker is forked from this process.
"""

import importlib
import logging
import os
import pkgutil

from darkroom_server.devices.kinds import KINDS

for _kind in KINDS:
    os.environ.update(_kind.environment)

# What these say of optional parts of theirs when they are imported, nobody who serves can use.
for _noisy in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_noisy).setLevel(logging.ERROR)

from darkroom_server.backends.diffusers import families, loader  # noqa: E402

__all__ = ["loader"]

# Which of them a worker needs it learns from its model's configuration.
for _module in pkgutil.iter_modules(families.__path__, prefix=f"{families.__name__}."):
    importlib.import_module(_module.name)
