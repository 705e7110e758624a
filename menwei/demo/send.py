"""`menwei demo send`: one scene into a running demo."""

import asyncio
from pathlib import Path

from rich.console import Console

from menwei.demo import sites
from menwei.demo.screen import KEYS
from menwei.demo.talk import NoAnswer, ask

EXIT_OK, EXIT_REFUSED, EXIT_ARGUMENTS = 0, 1, 2


def main(data: Path, gate: str, scene: str, lane: str) -> int:
    """Exit code: 0 it happens, 1 no demo runs or the scene is refused, 2 no such gate."""
    console = Console(stderr=True)
    known = {files.node: files for files in sites.gates(data)}
    if gate not in known:
        console.print(f"there is no gate {gate!r} in the demo; gates are {', '.join(known)}")
        return EXIT_ARGUMENTS
    home = {name: where for name, where, _, _ in KEYS.values()}
    question = {"do": "scene", "name": scene, "lane": lane or home.get(scene, "walk")}
    try:
        answer = asyncio.run(ask(known[gate].control, question))
    except NoAnswer as e:
        console.print(str(e))
        return EXIT_REFUSED
    if not answer.get("ok"):
        console.print(f"refused: {answer.get('error')}")
        return EXIT_REFUSED
    return EXIT_OK
