"""The two ways things go wrong: the caller's mistake, and a video that cannot be used; and how both are told."""


class UserError(Exception):
    """The caller's mistake. Its text is one line that says what, where and what to do; the command exits with 2."""


class BadVideo(Exception):
    """This video cannot be used. Its text is the reason that goes into the videos table; the run goes on."""


def one_line(error: BaseException, limit: int = 200) -> str:
    """The text of an error as one line of at most `limit` characters; its type where it says nothing."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def reason(error: BaseException) -> str:
    """An error that nobody foresaw, as the row of what failed by it has it."""
    return f"{type(error).__name__}: {error}"[:500]
