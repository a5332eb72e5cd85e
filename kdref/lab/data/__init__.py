"""The embedded data sets, offline. Sources and licences: data/README.md. Lesson: notebooks/01_soft_targets.ipynb."""

from kdref.lab.data.files import FILES, DataFile, data_file, data_folder
from kdref.lab.data.letters import letter
from kdref.lab.data.mnist1d_generator import transform as mnist1d_transform
from kdref.lab.data.sentences import snippets
from kdref.lab.data.sets import Split, digits, mnist1d, mnist1d_fresh, mnist5k, verify
from kdref.lab.data.smartwatch import watch

__all__ = [
    "FILES",
    "DataFile",
    "Split",
    "data_file",
    "data_folder",
    "digits",
    "letter",
    "mnist1d",
    "mnist1d_fresh",
    "mnist1d_transform",
    "mnist5k",
    "snippets",
    "verify",
    "watch",
]
