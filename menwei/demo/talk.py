"""One JSON line to a Unix socket of a gate, one line back."""

import asyncio
import json
from pathlib import Path
from typing import Any

ANSWER_S = 5.0


class NoAnswer(Exception):  # noqa: N818 - named by the condition
    """The gate does not answer there; the text says what to look at."""


async def ask(socket: Path, question: dict[str, Any]) -> dict[str, Any]:
    """Send one question, return the answer. Raises NoAnswer."""
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(json.dumps(question).encode() + b"\n")
                await writer.drain()
                line = await reader.readline()
            finally:
                writer.close()
        answer = json.loads(line)
    except (OSError, json.JSONDecodeError) as e:
        raise NoAnswer(f"{socket} does not answer ({e}): is the demo running?") from e
    if not isinstance(answer, dict):
        raise NoAnswer(f"{socket} answered something that is no object")
    return answer
