"""Meta-train image generators that learn something new from a handful of images.

Nothing is imported here, so that `import metatrain` costs nothing. The rooms, in the order in
which the data passes through them::

    config -> pack -> store -> episodes -> generators -> learners -> trainer
           -> checkpoint -> adapt -> generate -> evaluate -> report
"""

__version__ = "0.1.0"
