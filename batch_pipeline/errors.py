"""The errors a person is meant to read: one sentence each, saying what, where and how to mend it.

Whatever is not one of these is a defect of ours and keeps its traceback.
"""


class PipelineError(Exception):
    """Base of every error with a sentence for a person. `str(error)` is that sentence.

    Never holds row text, prompts or credentials: it is logged and shown in Dagster's UI.
    """


class ConfigurationError(PipelineError):
    """Wrong use or configuration: nothing was sent, and nothing will be until a person mends it."""
