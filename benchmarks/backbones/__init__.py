"""Meta-steps over backbones of diffusers, beside plain loops over PEFT of the same passes.

models, plain_loop -> cell -> __main__
"""
