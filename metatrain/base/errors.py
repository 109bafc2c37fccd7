"""Errors meant for people."""


class UserError(Exception):
    """Something the user can mend: one sentence saying what is wrong, where, and what to do.

    The command line prints the sentence alone and exits with `status`; a traceback is for our
    own mistakes only.
    """

    status = 1


def did_you_mean(word: str, known: list[str]) -> str:
    """A hint such as ``; did you mean 'steps'?``, or '' where nothing known is near `word`."""
    import difflib

    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""
