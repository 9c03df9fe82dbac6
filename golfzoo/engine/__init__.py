"""The engine: trains, quantizes, packs, reloads, scores and counts. It ships inside every submission.

It imports torch, numpy and the standard library, and nothing of the host. Start with run.py. A plugin's
body may import the names below, and nothing else of it.
"""

from golfzoo.engine.errors import RunError

__all__ = ["RunError"]
