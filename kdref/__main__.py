"""The command line: ``python -m kdref start``, ``lessons``, ``reset``, ``copy`` and ``doctor``."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from kdref import __version__

__all__ = ["exit_with", "main"]

CLOSED_PIPE = 141  # what a shell says of a program that was writing when its reader, head for instance, had gone


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a mistake of the user's is one line on standard error.

    Args:
        arguments: Words of the command line; those of this process by default.

    Returns:
        0 when all went well, 1 when not.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # an old Windows terminal may lack a Greek letter
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except BrokenPipeError:
        raise  # no mistake: see exit_with
    except ImportError as error:
        message = f"{error}. Install what the course needs: make course, or python -m pip install 'kdref[lab]'"
    except (ValueError, OSError) as error:
        message = str(error)
    print(f"kdref: {message}", file=sys.stderr)
    return 1


def exit_with(command: Callable[[], int | None]) -> NoReturn:
    """Run a command line and exit with its code; in silence when nobody reads what it prints any longer.

    Args:
        command: Returns the exit code; None counts as 0.
    """
    try:
        try:
            code = command()
        finally:
            sys.stdout.flush()  # here, where it can be caught, and not when Python ends
    except BrokenPipeError:
        os._exit(CLOSED_PIPE)  # without another flush
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m kdref", description="Knowledge distillation: course and reference.")
    top.add_argument("--version", action="version", version=f"kdref {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    start = commands.add_parser("start", help="open JupyterLab on your own copies of the lessons")
    start.add_argument("--lesson", default="00", metavar="NN", help="the lesson to open (default: 00)")
    start.add_argument("--no-browser", action="store_true", help="print the address instead of opening it")
    start.set_defaults(command=_start)

    lessons = commands.add_parser("lessons", help="list the lessons")
    lessons.set_defaults(command=_lessons)

    reset = commands.add_parser("reset", help="begin a lesson anew, keeping a backup of your copy")
    reset.add_argument("lessons", nargs="+", metavar="NN")
    reset.set_defaults(command=_reset)

    copy = commands.add_parser("copy", help="copy a method into your project")
    what = "a function (rkd_distance_loss), a file (relation.rkd, or rkd) or a topic with all its files (relation)"
    copy.add_argument("name", metavar="NAME", help=what)
    copy.add_argument("--to", type=Path, default=Path(), metavar="FOLDER", help="where to (default: here)")
    copy.set_defaults(command=_copy)

    doctor = commands.add_parser("doctor", help="check the installation")
    doctor.set_defaults(command=_doctor)
    return top


# Each command imports what it needs itself, so that --help answers at once and works without PyTorch.


def _start(options: argparse.Namespace) -> int:
    from kdref.lab import course

    return course.start(lesson=options.lesson, browser=not options.no_browser)


def _lessons(options: argparse.Namespace) -> int:
    from kdref.lab import course

    print(course.lesson_table())
    return 0


def _reset(options: argparse.Namespace) -> int:
    from kdref.lab import course

    for fresh, backup in course.reset_all(options.lessons):
        kept = f"; yours is kept as {backup}" if backup else ""
        print(f"{fresh} is as new{kept}")
    return 0


def _copy(options: argparse.Namespace) -> int:
    from kdref.lab.course import copying

    for path in copying.copy(options.name, to=options.to):
        print(f"wrote {path}: it needs torch and nothing else; tests and licence are in its header")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from kdref.lab.course import doctor

    return doctor.main()


if __name__ == "__main__":
    exit_with(main)
