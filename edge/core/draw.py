"""Draw the machines from their tables into this folder's README: `python -m edge.core.draw`."""

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
    from pathlib import Path  # noqa: PLC0415 - the core itself touches no file

    path = Path(__file__).with_name("README.md")
    path.write_text(redrawn(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
