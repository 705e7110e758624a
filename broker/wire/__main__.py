"""`python -m broker.wire`: write the generated documents beside this file."""

from pathlib import Path

from broker.wire.documents import documents

FOLDER = Path(__file__).parent / "schema"


def main() -> None:
    """Write every document."""
    FOLDER.mkdir(exist_ok=True)
    for name, content in documents().items():
        (FOLDER / name).write_bytes(content)


if __name__ == "__main__":
    main()
