"""Errors that carry a sentence for the person who can mend them."""

from typing import Literal

from metatrain.base.text import printable

# A step of the work that others build on.
Step = Literal["pack", "train", "adapt", "evaluate", "calibrate"]


class UserError(ValueError):
    """A mistake that a caller can mend: one sentence with what is wrong, where, and what to do.

    Every error that this package raises on purpose is one. The command line prints the sentence
    alone and exits with `status`; a traceback is for our own mistakes.
    """

    status = 1


class MissingStepError(UserError):
    """A step of the work that has to come first.

    Args:
        sentence: what is wrong, and what to do, in a caller's words.
        step: the step to take; the command line adds the command that takes it.
    """

    def __init__(self, sentence: str, step: Step) -> None:
        super().__init__(sentence)
        self.step: Step = step

    def __reduce__(self) -> tuple[type["MissingStepError"], tuple[str, Step]]:
        """Keep the step when the error passes from a worker process to its parent."""
        return MissingStepError, (str(self), self.step)


class HeldError(UserError):
    """A folder or file that another process is writing, and nobody else may write meanwhile."""


class UntrustedError(UserError):
    """A place that only a stranger's file names; a caller who trusts the file may read it."""


def did_you_mean(word: str, known: list[str]) -> str:
    """Return a hint such as ``; did you mean 'steps'?``, or '' if no known word is close."""
    import difflib

    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean '{printable(near[0])}'?" if near else ""
