"""Distribute meta-training: Ray Train workers, each with a DeepSpeed engine.

launch -> worker -> engine
"""
