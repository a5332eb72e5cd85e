"""Build the website: ``python docs/site/build.py [FOLDER]``; without a folder into ``site/``. Needs no network."""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from gather import ROOT, gather
from sphinx.cmd.build import build_main

HERE = Path(__file__).parent


def main() -> int:
    """Gather the sources, call Sphinx with warnings as errors, and say where the site is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "site")
    folder = parser.parse_args().folder.resolve()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        source, built = Path(name) / "source", Path(name) / "site"
        gather(source)
        code = build_main(["-q", "-W", "--keep-going", "-j", "2", "-c", str(HERE), str(source), str(built)])
        if code:
            return code
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(built, folder, ignore=shutil.ignore_patterns(".doctrees", ".buildinfo*"))
    print(f"{folder / 'index.html'}: {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
