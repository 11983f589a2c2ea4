"""A synchronous answer as a line: in the form of a batch's results, to the letter."""

RESULT = b'{"custom_id":"'
_WHAT = b'","result":{"type":"'


def result_line(custom_id: str, result: bytes) -> bytes:
    """`result` is JSON on one line that begins with its type."""
    return RESULT + custom_id.encode() + b'","result":' + result + b"}\n"


def custom_id_of(line: bytes) -> str:
    return line.removeprefix(RESULT).partition(b'"')[0].decode("ascii", "replace")


def type_of(line: bytes) -> str:
    return line.partition(_WHAT)[2].partition(b'"')[0].decode("ascii", "replace")
