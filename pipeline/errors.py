"""The two ways things go wrong: the caller's mistake, and a video that cannot be used."""


class UserError(Exception):
    """The caller's mistake. Its text is one line that says what, where and what to do; the command exits with 2."""


class BadVideo(Exception):
    """This video cannot be used. Its text is the reason that goes into the videos table; the run goes on."""
