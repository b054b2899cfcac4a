"""Imported once by the fork server, so that a worker starts with torch and diffusers at hand.

Nothing here may touch a device or start a thread: every worker is forked from this process.
"""

from darkroom_server.backends.diffusers import loader

__all__ = ["loader"]
