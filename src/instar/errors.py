"""What can go wrong, by whose doing.

Every message is one line that names the object, says what was expected and what was found, and what to do.
"""


class InstarError(Exception):
    """The work failed; nothing that was there before is lost. The command line exits with 1."""

    exit_status = 1


class DataWarning(UserWarning):
    """Data that were read, but perhaps not as meant: files that were passed over, for instance."""


class UsageError(InstarError, ValueError):
    """The call itself is wrong: a name, an option or an argument. The command line exits with 2."""

    exit_status = 2


class DataError(InstarError):
    """A data set or a file of it is not what it should be: truncated, empty, of another shape."""


class RunError(InstarError):
    """A run directory cannot be used: taken by another process, of another configuration, not writable."""


class TrainingError(InstarError):
    """A fit cannot go on: the loss is not finite, the teacher is the student, a network never learns."""
