"""Configuration files of the product and their strict reader."""

from importlib.resources import files
from pathlib import Path


def resource(name: str) -> Path:
    """A file that ships in this folder. Whether it exists is the reader's to say."""
    return Path(str(files(__name__).joinpath(name)))
