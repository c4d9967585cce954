"""A folder for a notebook without internet."""

from typing import Annotated

from pydantic import StringConstraints

from lib.config.section import Section


class Package(Section):
    """What `python -m lib package` puts into the folder, besides weights, code and configuration."""

    user: str = ""
    """Kaggle user whose dataset and notebook the package becomes; empty for the user that the `kaggle` package is set
    up for."""
    wheels: bool = True
    """Fetch the packages that Kaggle's image lacks (from PyPI, for Linux on x86-64); the notebook installs them."""
    python: Annotated[str, StringConstraints(pattern=r"^(3\.\d+)?$")] = ""
    """Python version of Kaggle's image that wheels are fetched for, such as "3.12"; empty for the version that runs
    now."""
