"""The errors a person is meant to read: one sentence each, saying what, where and how to mend it.

Whatever is not one of these is a defect of ours and keeps its traceback.
"""


class PipelineError(Exception):
    """Base of every error with a sentence for a person. `str(error)` is that sentence.

    Never holds row text, prompts or credentials: it is logged and shown in Dagster's UI. It may hold a file's
    name or the API's words, so control characters in it are spelled out.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def printable(text: str) -> str:
    """`text` on one line, with whatever a terminal or a log would obey rather than show spelled out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class ConfigurationError(PipelineError):
    """Wrong use or configuration: nothing was sent, and nothing will be until a person mends it."""


class OutageError(PipelineError):
    """Something that we stand on cannot be reached for now. What was written is whole; calling again goes on."""
