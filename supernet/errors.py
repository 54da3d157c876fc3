"""The one exception family of the project."""


class NasError(Exception):
    """A fault that the user can mend: what was given, what is accepted, what to do.

    The command line turns it into one line on standard error and exit code 2.
    """
