"""The errors that instar raises, by their cause.

Every message is one line: the object, what was expected, what was found, and what to do.
"""


class InstarError(Exception):
    """The work failed; earlier results are not lost. The command line exits with 1."""

    exit_status = 1


class DataWarning(UserWarning):
    """Data or a teacher that are used, but perhaps not as meant: files passed over, classes in another order."""


class LearningWarning(UserWarning):
    """A fit whose numbers compare with nothing: no better than guessing, or by old batch statistics."""


class UsageError(InstarError, ValueError):
    """The call itself is wrong: a name, an option or an argument. The command line exits with 2."""

    exit_status = 2


class DataError(InstarError):
    """A data set or one of its files is invalid: truncated, empty, of another shape."""


class RunError(InstarError):
    """A run directory cannot be used: locked by another process, of another configuration, not writable."""


class TrainingError(InstarError):
    """A fit cannot continue: the loss is not finite, teacher and student share weights, there is no gradient."""


def first_line(error: BaseException) -> str:
    """The first line of what another library says of an error; its kind where it says nothing.

    Example:
        >>> first_line(ValueError("no such thing\\nin a long story")), first_line(KeyError())
        ('no such thing', 'KeyError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
