"""Where the repository is on the web: one line to set; until then no page offers to open a lesson elsewhere."""

REPOSITORY = ""  # "OWNER/NAME" on GitHub


def colab_cell(repository: str) -> str:
    """The cell to run first in Colab, which has PyTorch and not kdref."""
    return f'%pip install --quiet "kdref[lab,language,edge] @ git+https://github.com/{repository}"'


def launch_links(repository: str, name: str) -> list[str]:
    """Links that open a lesson in Binder and in Colab, in MyST; none without an address.

    Args:
        repository: ``OWNER/NAME``, or nothing.
        name: Of the notebook, such as ``01_soft_targets``.
    """
    if not repository:
        return []
    path = f"notebooks/{name}.ipynb"
    return [
        f"[Open it in Binder](https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/{path})",
        f"[open it in Colab](https://colab.research.google.com/github/{repository}/blob/main/{path}), "
        f"and run this first: `{colab_cell(repository)}`",
    ]
