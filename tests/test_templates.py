"""Templates: TemplateFlow's own client is the truth, and nothing may be fetched or written."""

import os
import re
import shlex
import socket
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from bids_parcellate.errors import DataError, MissingInputError, UsageError
from bids_parcellate.io.images import read_info, read_volume
from bids_parcellate.io.templates import find_template, template_mask, templateflow_home
from bids_parcellate.numerics.grids import Grid, grid_with_resolution

MNI = "MNI152NLin2009cAsym"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*arguments):
        pytest.fail("something asked for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.fixture
def home(shared_data, tmp_path, monkeypatch):
    """Make a TEMPLATEFLOW_HOME of real files: a brain mask at 1 and 2 mm, and a subject's GM and WM at 2 mm."""
    home = tmp_path / "templateflow"
    folder = home / f"tpl-{MNI}"
    folder.mkdir(parents=True)
    for path in (shared_data / "templateflow" / f"tpl-{MNI}").iterdir():
        (folder / path.name).symlink_to(path)
    anat = shared_data / "real" / "anat_RND050" / "sub-RND050" / "anat"
    for label in ("GM", "WM"):
        (source,) = anat.glob(f"*_label-{label}_probseg.nii.gz")
        (folder / f"tpl-{MNI}_res-02_label-{label}_probseg.nii.gz").symlink_to(source)
        (folder / f"tpl-{MNI}_res-01_label-{label}_probseg.nii.gz").touch()  # as TemplateFlow's empty files
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(home))
    return home


def run_python(code, home):
    """Run code with the real TemplateFlow client, whose import fills its folder."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "TEMPLATEFLOW_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


class TestHome:
    def test_is_what_the_environment_says_now(self, tmp_path, monkeypatch):
        for name in ("a", "b"):
            monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / name))
            assert templateflow_home() == tmp_path / name

    def test_default_is_templateflows(self, monkeypatch, tmp_path):
        monkeypatch.delenv("TEMPLATEFLOW_HOME", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert templateflow_home() == tmp_path / "templateflow"


class TestFindTemplate:
    def test_finds_what_templateflow_finds(self, home):
        queries = [
            {"suffix": "mask", "desc": "brain", "resolution": 1},
            {"suffix": "mask", "desc": "brain", "resolution": 2},
            {"suffix": "probseg", "label": "brain", "resolution": 1},
            {"suffix": "boldref", "desc": "fMRIPrep", "resolution": 2},
            {"suffix": "probseg", "label": "GM", "resolution": 2},
        ]
        code = f"from templateflow import api\nfor q in {queries!r}: print(api.get({MNI!r}, extension='nii.gz', **q))"
        assert [str(find_template(MNI, **query)) for query in queries] == run_python(code, home)

    def test_takes_the_finest_by_default(self, home):
        assert find_template(MNI, suffix="mask", desc="brain").name == f"tpl-{MNI}_res-01_desc-brain_mask.nii.gz"

    def test_passes_over_files_without_content(self, home):
        found = find_template(MNI, suffix="probseg", label="GM")
        assert found.name == f"tpl-{MNI}_res-02_label-GM_probseg.nii.gz"
        found.unlink()
        found.symlink_to("../.git/annex/objects/Xk/9Q/MD5E-s1--0.nii.gz")
        with pytest.raises(MissingInputError, match="label='GM'"):
            find_template(MNI, suffix="probseg", label="GM")

    def test_other_entities_are_other_files(self, home):
        with pytest.raises(MissingInputError):
            find_template(MNI, suffix="mask")
        with pytest.raises(MissingInputError):
            find_template(MNI, suffix="dseg", desc="200Parcels7Networks")

    @pytest.mark.parametrize("name", ["tpl-A_T1w.nii.gz", "tpl-A_res-1_T1w.nii.gz", "tpl-A_res-03_T1w.nii.gz"])
    def test_names_of_all_ages(self, tmp_path, monkeypatch, name):
        monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
        (tmp_path / "tpl-A").mkdir()
        (tmp_path / "tpl-A" / name).write_bytes(b"content")
        assert find_template("A", suffix="T1w").name == name

    def test_cohorts(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
        for cohort in (1, 2):
            path = tmp_path / f"tpl-A/cohort-{cohort}/tpl-A_cohort-{cohort}_res-1_T1w.nii.gz"
            path.parent.mkdir(parents=True)
            path.write_bytes(b"content")
        assert find_template("A", suffix="T1w", cohort=2) == path
        with pytest.raises(MissingInputError):
            find_template("A", suffix="T1w")

    def test_the_way_out_is_a_command_that_works(self, home):
        find_template(MNI, suffix="mask", desc="brain", resolution=1)
        with pytest.raises(MissingInputError) as caught:
            find_template(MNI, suffix="mask", desc="brain", resolution=7)
        assert str(home / f"tpl-{MNI}") in caught.value.message
        command = re.search(r"(TEMPLATEFLOW_HOME=\S+ python -c \".*?\");", caught.value.hint)[1]
        assignment, python, flag, code = shlex.split(command)
        assert (assignment, python, flag) == (f"TEMPLATEFLOW_HOME={home}", "python", "-c")
        here = code.replace("resolution=7", "resolution=1").replace("api.get", "print(api.get") + ")"
        assert run_python(here, home) == [str(find_template(MNI, suffix="mask", desc="brain", resolution=1))]

    def test_a_home_that_is_not_there_is_not_made(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "nowhere"))
        with pytest.raises(MissingInputError, match=f"nowhere/tpl-{MNI}"):
            find_template(MNI, suffix="mask", desc="brain")
        assert list(tmp_path.iterdir()) == []

    def test_templateflow_itself_is_not_imported(self, home):
        code = f"""
import sys
from bids_parcellate.io.templates import find_template
find_template({MNI!r}, suffix="mask", desc="brain")
print("templateflow" in sys.modules)
"""
        assert run_python(code, home) == ["False"]


class TestTemplateMask:
    @pytest.fixture
    def grid(self, shared_data):
        path = next((shared_data / "real" / "twosub_mni4mm").glob("sub-*/func/*_boldref.nii.gz"))
        return read_info(path).grid

    def test_brain_on_its_own_grid_is_the_template(self, home):
        brain, grid = read_volume(find_template(MNI, suffix="mask", desc="brain", resolution=2))
        mask = template_mask(MNI, "whole-brain-template", grid, resolution=2)
        np.testing.assert_array_equal(mask.data, brain > 0)

    def test_brain_on_the_grid_of_a_run(self, home, grid, shared_data):
        mask = template_mask(MNI, "whole-brain-template", grid)
        assert mask.grid == grid
        for path in (shared_data / "real" / "twosub_mni4mm").glob("sub-*/func/*_desc-brain_mask.nii.gz"):
            own = nib.load(path).get_fdata() > 0
            assert 2 * (mask.data & own).sum() / (mask.n_voxels + own.sum()) > 0.85

    @pytest.mark.parametrize(("strategy", "label"), [("gm-template", "GM"), ("wm-template", "WM")])
    def test_tissues(self, home, strategy, label):
        probability, grid = read_volume(find_template(MNI, suffix="probseg", label=label))
        mask = template_mask(MNI, strategy, grid)
        assert probability[mask.data].min() >= 0.5
        assert mask.n_voxels > 0.98 * (probability >= 0.5).sum()  # all but small pieces
        loose = template_mask(MNI, strategy, grid, mask_args={"threshold": 0.2, "connected": False})
        np.testing.assert_array_equal(loose.data, probability >= np.float32(0.2))

    def test_grey_matter_survives_at_the_resolution_of_fmri(self, home, grid):
        mask = template_mask(MNI, "gm-template", grid)
        opened = template_mask(MNI, "gm-template", grid, mask_args={"opening": 2})  # nilearn's default
        assert mask.n_voxels > 10_000
        assert opened.n_voxels < 500

    def test_another_space(self, home, grid):
        with pytest.raises(MissingInputError, match="tpl-MNI152NLin6Asym"):
            template_mask("MNI152NLin6Asym", "whole-brain-template", grid)

    def test_data_elsewhere(self, home):
        far = Grid((5, 5, 5), nib.affines.from_matvec(np.eye(3), [1000, 0, 0]))
        with pytest.raises(DataError, match=r"_desc-brain_mask.nii.gz, resampled to the data: the mask is empty"):
            template_mask(MNI, "whole-brain-template", far)

    def test_unknown_strategy(self, home, grid):
        with pytest.raises(UsageError, match="'epi' is none of whole-brain-template"):
            template_mask(MNI, "epi", grid)

    def test_unknown_argument(self, home):
        grid = grid_with_resolution(read_info(find_template(MNI, suffix="mask", desc="brain")).grid, 8)
        with pytest.raises(UsageError, match="has no argument lower_cutoff"):
            template_mask(MNI, "whole-brain-template", grid, mask_args={"lower_cutoff": 0.2})
