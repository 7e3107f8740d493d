"""The command line: arguments → Config → workflow, and the one place that turns errors into exit codes."""

import argparse
import atexit
import gc
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from pydantic.fields import FieldInfo

from bids_parcellate.config import Config, build_config, read_toml
from bids_parcellate.errors import AnalysisLevelError, DataError, NothingSelectedError, ParcellateError, UsageError
from bids_parcellate.log import console
from bids_parcellate.version import __version__

logger = logging.getLogger(__name__)

DESCRIPTION = """\
Fit a group brain parcellation on fMRIPrep derivatives, and write it with parcel time series and connectivity
as BIDS Derivatives."""

EPILOG = """\
example:
  bids-parcellate /data/fmriprep /data/parcels group --space MNI152NLin2009cAsym --n-parcels 100 200 -w /scratch

exit codes:
  0 done   16 no valid dataset   17 unknown analysis level   18 no usable run   64 wrong option   65 unusable data
  66 missing input   70 internal error   73 output cannot be created   74 reading or writing failed"""

_INTERNAL_ERROR = 70
_INTERRUPTED = 130
_MODULES_OF_WORKERS = ("bids_parcellate.runs.tasks", "bids_parcellate.report.documents")


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are ours, so that they get our exit codes."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments.

        Parameters
        ----------
        message : str
            What is wrong with them.

        Raises
        ------
        UsageError
            Always.
        """
        raise UsageError(f"{message[:1].upper()}{message[1:]}.", f"See {self.prog} --help.")


class _CheckOutputs(argparse.Action):
    """Checks an output folder and ends the program, as ``--version`` does."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,  # noqa: ARG002 - argparse gives it
        values: Any,
        option_string: str | None = None,  # noqa: ARG002
    ) -> NoReturn:
        """Check, and exit with 0 if all is well.

        Parameters
        ----------
        parser, namespace, option_string
            As argparse gives them.
        values : Path
            The folder.

        Raises
        ------
        DataError
            If something is wrong.
        """
        from bids_parcellate.outputs.validation import find_problems  # noqa: PLC0415 - --help needs no scientific Python

        problems = find_problems(values)
        if problems:
            raise DataError("\n".join(problems), "Run the group level again, or report this.")
        sys.stdout.write(f"{values}: no problem was found.\n")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run bids-parcellate.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        The exit code; 0 when all went well.
    """
    atexit.register(gc.freeze)  # else the interpreter, as it ends, looks for garbage in all libraries for half a second
    with console() as handler:
        try:
            return _run(sys.argv[1:] if argv is None else argv, handler)
        except ParcellateError as error:
            logger.error("%s", error)  # noqa: TRY400 - our errors say all there is to say; a trace would hide it
            return error.exit_code
        except KeyboardInterrupt:
            logger.error("Interrupted. Start again with the same command; what is done is kept.")  # noqa: TRY400
            return _INTERRUPTED
        except BrokenPipeError:
            # The reader of our output, such as `head`, is gone; Python must not complain again at its exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except Exception:
            logger.exception("This is a mistake in bids-parcellate %s. Please report it with these lines.", __version__)
            return _INTERNAL_ERROR


def _run(arguments: Sequence[str], handler: logging.Handler) -> int:
    _refuse_other_encodings(arguments)
    options = build_parser().parse_args(_with_hyphens(arguments))
    handler.setLevel(logging.DEBUG if options.verbose else logging.INFO)
    if options.analysis_level not in (levels := get_args(Config.model_fields["analysis_level"].annotation)):
        raise AnalysisLevelError(
            f"The analysis level {options.analysis_level!r} is unknown; there are: {', '.join(levels)}."
        )
    config = config_from_options(options)
    if not (options.boilerplate_only or options.check):
        _prepare_workers(config)
    # Imported here, so that --help and mistakes in options need no scientific Python.
    from bids_parcellate import workflow  # noqa: PLC0415

    if options.boilerplate_only:
        for path in workflow.write_boilerplate(config):
            logger.info("Wrote %s.", path)
        return 0
    if options.reports_only:
        *others, last = workflow.write_reports(config)
        logger.info("Wrote %d pages; open %s.", len(others) + 1, last)
        return 0
    if options.check:
        text, n_usable = workflow.check(config)
        sys.stdout.write(text)
        return 0 if n_usable else NothingSelectedError.exit_code
    n_crashes = workflow.run(config, command_line=["bids-parcellate", *arguments])
    return _INTERNAL_ERROR if n_crashes else 0


def _prepare_workers(config: Config) -> None:
    """Let workers load their modules while this process loads its own and looks for runs."""
    from bids_parcellate.execution.executor import prepare_workers, usable_cores  # noqa: PLC0415

    if config.execution.executor == "local" and (config.execution.nprocs or usable_cores()) > 1:
        prepare_workers(_MODULES_OF_WORKERS)


def _refuse_other_encodings(arguments: Iterable[str]) -> None:
    """Refuse bytes that Python had to replace; neither records nor tables could hold them."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{argument!r} is not UTF-8.", "Rename what it names, or use a link to it.") from error


def config_from_options(options: argparse.Namespace) -> Config:
    """Make the configuration from parsed arguments and the file that they name.

    Parameters
    ----------
    options : argparse.Namespace
        What the parser returned.

    Returns
    -------
    Config
        The command line wins over the file.

    Raises
    ------
    ParcellateError
        If the file cannot be read, or an option is not allowed.
    """
    given = vars(options)
    values: dict[str, Any] = {name: given[name] for name in ("bids_dir", "output_dir", "analysis_level")}
    for section, name, _ in _iter_options():
        if name in given:
            values.setdefault(section, {})[name] = given[name]
    return build_config(values, read_toml(options.config_file) if options.config_file else None)


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser from the configuration models.

    Returns
    -------
    argparse.ArgumentParser
        Options that were not given are absent from what it returns.
    """
    parser = Parser(
        prog="bids-parcellate",
        usage="%(prog)s BIDS_DIR OUTPUT_DIR {participant,group} [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for name in ("bids_dir", "output_dir", "analysis_level"):
        field = Config.model_fields[name]
        parser.add_argument(name, help=field.description, metavar=_extra(field).get("metavar"))
    parser.add_argument("--version", action="version", version=f"bids-parcellate {__version__}")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="Say more.")
    parser.add_argument(
        "--check", action="store_true", help="Print the runs that would be used, what they need, and stop."
    )
    parser.add_argument(
        "--boilerplate-only",
        action="store_true",
        help="Write the methods text of the job to OUTPUT_DIR/logs, and stop.",
    )
    parser.add_argument(
        "--reports-only",
        action="store_true",
        help="Write the pages of the last job in OUTPUT_DIR anew, with its options, and stop.",
    )
    parser.add_argument(
        "--check-outputs",
        action=_CheckOutputs,
        type=Path,
        metavar="OUTPUT_DIR",
        help="Check what an earlier job wrote, beyond what the BIDS validator does, and stop. Nothing else is needed.",
    )
    parser.add_argument("--config-file", type=Path, metavar="FILE", help="TOML file of options; the command line wins.")
    groups = {
        section: parser.add_argument_group(section, model.__doc__) for section, model in Config.sections().items()
    }
    for section, name, field in _iter_options():
        groups[section].add_argument(*option_flags(name, field), dest=name, help=_help(field), **_argument(field))
    return parser


def _iter_options() -> Iterator[tuple[str, str, FieldInfo]]:
    for section, model in Config.sections().items():
        for name, field in model.model_fields.items():
            yield section, name, field


def option_flags(name: str, field: FieldInfo) -> list[str]:
    """Spell an option as on the command line.

    Parameters
    ----------
    name : str
        Name of the field.
    field : FieldInfo
        The field.

    Returns
    -------
    list of str
        All its spellings; underscores are accepted in place of hyphens.
    """
    return list(_extra(field)["flags"]) or [f"--{name.replace('_', '-')}"]


def _extra(field: FieldInfo) -> Mapping[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, Mapping) else {}


def _help(field: FieldInfo) -> str:
    text = (field.description or "").replace("%", "%%")
    if field.default is None or field.default == () or isinstance(field.default, bool):
        return text
    default = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
    return f"{text} (default: {default})"


def _argument(field: FieldInfo) -> dict[str, Any]:
    """Say how argparse takes a field; values stay text, since the model converts and checks them."""
    if field.annotation is bool:
        action = argparse.BooleanOptionalAction if field.default else "store_true"
        return {"action": action, "default": argparse.SUPPRESS}
    argument: dict[str, Any] = {"default": argparse.SUPPRESS}
    if get_origin(field.annotation) is tuple:
        argument["nargs"] = "+"
    if get_origin(field.annotation) is Literal:
        argument["choices"] = get_args(field.annotation)
    else:
        argument["metavar"] = _extra(field).get("metavar")
    return argument


def _with_hyphens(arguments: Iterable[str]) -> list[str]:
    """Let ``--participant_label`` stand for ``--participant-label``."""
    return [_hyphenated(argument) if argument.startswith("--") else argument for argument in arguments]


def _hyphenated(argument: str) -> str:
    flag, equals, value = argument.partition("=")
    return f"{flag.replace('_', '-')}{equals}{value}"
