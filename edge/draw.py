"""Draw the machines of the core from their tables into its README: `python -m edge.draw`."""

from pathlib import Path

from edge.core import barrier, lane

BEGIN, END = "<!-- drawn: {} -->", "<!-- end -->"


def redrawn(readme: str) -> str:
    """The README with both diagrams as the tables are now. Raises ValueError when a marker is missing."""
    for name, diagram in (("barrier", barrier.mermaid()), ("lane", lane.mermaid())):
        begin = BEGIN.format(name)
        start = readme.index(begin) + len(begin)
        readme = f"{readme[:start]}\n```mermaid\n{diagram}\n```\n{readme[readme.index(END, start) :]}"
    return readme


def main() -> None:
    """Rewrite the README in place."""
    path = Path(__file__).parent / "core" / "README.md"
    path.write_text(redrawn(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
