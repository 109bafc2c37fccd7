"""Steps to new concepts over one backbone, from several starts of its LoRA.

plan -> trainings, curves -> adapting -> page -> __main__
"""
