"""The engine: trains, quantizes, packs, reloads, scores and counts. It ships inside every submission.

It imports torch, numpy, sentencepiece and the standard library, and nothing of the host. Start with run.py.
"""
