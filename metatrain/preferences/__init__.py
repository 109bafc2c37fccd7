"""Learn from choices between drawings.

Files, each built on those before it:

    choices    the file of choices: appended to, and read strictly
    pairs      choices with a winner, the rater's consistency, and the pictures
    share      a share of a count, with its interval
    reward     a Bradley-Terry reward on frozen features
    starts     starts of trainings: the model as it was, or a meta-trained adapter
    direct     a training by Diffusion-DPO, or on the winners alone
    folds      trainings that each leave choices out, and the step that foresees these best
    prefer     the whole: from an adapted model and choices to another adapted model
    sentences  its outcome in words
    traits     the numbers that simulated tastes are made of
    drawings   drawings of one model, packed with their traits, for simulated raters
"""
