"""Fetch from TemplateFlow what ``--mask whole-brain-template``, ``gm-template`` and ``wm-template`` read.

Usage: ``python fetch_templates.py FOLDER [TEMPLATE ...]``. Templates that FOLDER holds already are passed over.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from templateflow.client import TemplateFlowClient

QUERIES = (
    {"desc": "brain", "suffix": "mask"},
    {"desc": None, "label": "GM", "suffix": "probseg"},
    {"desc": None, "label": "WM", "suffix": "probseg"},
)


def fetch(client: "TemplateFlowClient", template: str, folder: Path) -> None:
    """Put the brain masks and tissue maps of a template into a TemplateFlow folder.

    Parameters
    ----------
    client : TemplateFlowClient
        Where they come from.
    template : str
        Such as "MNI152NLin2009cAsym".
    folder : Path
        Where they go; only these files, not the tree of empty ones that the client makes.
    """
    for query in QUERIES:
        found = client.get(template, extension=".nii.gz", **query)  # a template may lack one of them
        for path in found if isinstance(found, list) else [found]:
            target = folder / path.relative_to(client.cache.config.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def main(folder: str, *templates: str) -> None:
    """Fetch the templates that are named.

    Parameters
    ----------
    folder : str
        The TemplateFlow folder.
    *templates : str
        Their names.

    Raises
    ------
    SystemExit
        If one of them cannot be fetched.
    """
    missing = [template for template in templates if not Path(folder, f"tpl-{template}").is_dir()]
    if not missing:
        return
    with tempfile.TemporaryDirectory() as skeleton:
        os.environ["TEMPLATEFLOW_HOME"] = skeleton
        # Imported here since that alone fills TEMPLATEFLOW_HOME.
        from templateflow.client import TemplateFlowClient  # noqa: PLC0415

        client = TemplateFlowClient(root=skeleton)
        for template in missing:
            try:
                fetch(client, template, Path(folder))
            except (OSError, RuntimeError) as error:
                sys.exit(
                    f"{template} cannot be fetched: {error}\n  -> Where there is no network, put a TemplateFlow folder "
                    "into containers/templateflow before the build, or mount it at /templateflow at run time."
                )


if __name__ == "__main__":
    main(*sys.argv[1:])
