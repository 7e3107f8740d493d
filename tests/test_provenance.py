"""What a job says of itself: its record, its methods in all forms, the messages of its workers, its summary."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from bids_parcellate.cli import main
from bids_parcellate.config import build_config
from bids_parcellate.outputs.citation import Reference, bibtex, methods_html, methods_latex
from bids_parcellate.outputs.software import find_container, image_version
from bids_parcellate.workflow import write_boilerplate
from tests.outputs import digests


def job(study, folder, *options):
    return main([str(study[0]), str(folder), "group", "--n-parcels", "10", "--quality", "none", *map(str, options)])


@pytest.fixture(scope="module")
def failed(study, tmp_path_factory):
    """A job by two workers, whose second participant has a broken image."""
    folder = tmp_path_factory.mktemp("failed")
    dataset = shutil.copytree(study[0], folder / "data")
    (image,) = dataset.glob("sub-02/ses-1/func/*_desc-preproc_bold.nii.gz")
    content = image.read_bytes()
    image.write_bytes(content[: len(content) // 2])
    assert job((dataset,), folder / "out", "--nprocs", "2") == 0
    return folder / "out"


def only(folder, pattern):
    (path,) = folder.glob(pattern)
    return path


def read_record(folder):
    return json.loads(only(folder, "logs/*/provenance.json").read_text())


def test_the_record_says_all_that_results_depend_on(study, outputs):
    record = read_record(outputs)
    assert record["Outcome"] == "done"
    assert record["CommandLine"][:4] == ["bids-parcellate", str(study[0]), str(outputs), "group"]
    assert record["Software"]["numpy"] == np.__version__
    assert record["RandomSeed"] == 0
    assert build_config(record["Configuration"]).to_toml() == only(outputs, "logs/*/config.toml").read_text()
    assert [each["Run"] for each in record["Inputs"]] == [
        "sub-01_ses-1_task-rest", "sub-01_ses-2_task-rest", "sub-02_ses-1_task-rest",
    ]  # fmt: skip
    for each in record["Inputs"]:
        assert (outputs / ".work" / each["ReductionDigest"][:2] / f"{each['ReductionDigest']}.npz").is_file()
        suffixes = {file["URI"].rpartition("_")[2] for file in each["Files"]}
        assert {"bold.nii.gz", "mask.nii.gz", "timeseries.tsv"} <= suffixes
        for file in each["Files"]:
            path = study[0] / file["URI"].split(":", 2)[2]
            assert file["Bytes"] == path.stat().st_size


def test_the_record_says_what_steps_took(outputs):
    steps = {step["Name"]: step for step in read_record(outputs)["Steps"]}
    assert list(steps) == ["Select runs", "Reduce runs", "Fit parcellations", "Extract signals", "Write the reports"]
    for step in steps.values():
        assert step["Seconds"] >= 0
        assert 50 < step["PeakMegabytes"] < 50_000
    for name in ("Reduce runs", "Extract signals"):
        tasks = steps[name]["Tasks"]
        assert len(tasks) == 3
        assert sum(task["Seconds"] for task in tasks.values()) <= steps[name]["Seconds"] + 0.01


def test_messages_and_costs_of_workers_come_back(failed):
    log = only(failed, "logs/*/bids-parcellate.log").read_text()
    assert "sub-02_ses-1_task-rest failed." in log
    assert "Traceback" in log
    assert "in reduce_task" in log
    assert set(read_record(failed)["Steps"][1]["Tasks"]) == {
        "sub-01_ses-1_task-rest", "sub-01_ses-2_task-rest", "sub-02_ses-1_task-rest",
    }  # fmt: skip


def test_the_summary_says_what_was_left_out_and_where_to_look(failed):
    log = only(failed, "logs/*/bids-parcellate.log").read_text()
    summary = log[log.index("Done in") :]
    assert "2 runs used, 1 left out." in summary
    lines = dict(re.findall(r"\n  (\w[\w ]*): +(.+)", summary))
    assert list(lines) == ["Made", "Left out", "Reasons", "Report", "Methods", "Outputs", "Log"]
    assert lines["Made"] == "10 parcels; time series and connectivity of 2 runs"
    assert lines["Left out"] == "sub-02_ses-1_task-rest"
    for name in ("Reasons", "Report", "Methods", "Log"):
        assert (failed / lines[name].split()[0]).is_file()


def test_a_job_that_fails_is_on_record(study, tmp_path):
    assert job(study, tmp_path, "--min-volumes", "500") == 18
    assert read_record(tmp_path)["Outcome"].startswith("NothingSelectedError: No run is left")


def test_a_second_job_changes_nothing_but_its_own_record(study, outputs, tmp_path):
    folder = shutil.copytree(outputs, tmp_path / "copy")
    before = digests(folder)
    assert main([str(study[0]), str(folder), "group", "--nprocs", "1", "--n-parcels", "10", "30"]) == 0
    assert digests(folder) == before
    assert len(list(folder.glob("logs/*/provenance.json"))) == 2


def test_methods_alone(study, tmp_path):
    assert job(study, tmp_path, "--boilerplate-only") == 0
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == [f"logs/CITATION.{kind}" for kind in ("bib", "html", "md", "tex")]
    assert "3 runs of 2 participants" in (tmp_path / "logs" / "CITATION.md").read_text()


METHODS = """\
# Methods

Signals (Ward 1963; Thirion et al. 2014) & 100 % <noise>, as Ledoit and Wolf (2004) say.

## References

- Ledoit O, Wolf M (2004). A well-conditioned estimator. Journal 88:365-411.
- Thirion B, Varoquaux G, Poline JB (2014). Which clustering gives good parcellations? Front Neurosci 8:167.
- Ward JH (1963). Hierarchical grouping. J Am Stat Assoc 58:236-244.
"""


def test_latex_cites_the_bibliography():
    text = methods_latex(METHODS)
    assert r"Signals (\citealp{Ward1963}; \citealp{Thirion2014}) \& 100 \% \textless{}noise\textgreater{}" in text
    assert r"as \citet{Ledoit2004} say." in text
    assert set(re.findall(r"\\cite\w+\{(\w+)\}", text)) == set(re.findall(r"@misc\{(\w+),", bibtex(METHODS)))
    for opening, closing in (("{", "}"), (r"\begin", r"\end")):
        assert text.count(opening) == text.count(closing)
    assert "References" not in text


def test_bibliography_has_names_as_bibtex_reads_them():
    entries = bibtex(METHODS)
    assert "author = {Thirion, B. and Varoquaux, G. and Poline, J. B.}," in entries
    assert "title = {{Which clustering gives good parcellations?}}," in entries
    assert "howpublished = {J Am Stat Assoc 58:236-244}," in entries


def test_html_holds_the_same_words():
    class Words(HTMLParser):
        text = ""

        def handle_data(self, data):
            self.text += data

    page = Words()
    page.feed(methods_html(METHODS))
    plain = re.sub(r"^(#+|-) ", "", METHODS, flags=re.MULTILINE)
    assert page.text.split() == ["Methods", *plain.split()]


def test_every_reference_of_a_job_is_cited_in_latex(study, tmp_path):
    """All options that bring references; each of these is mentioned in the text."""
    options = ("--connectivity", "tangent", "partial", "--low-pass", "0.1", "--fd-threshold", "0.5")
    assert job(study, tmp_path, *options, "--boilerplate-only") == 0
    text, entries = ((tmp_path / "logs" / f"CITATION.{kind}").read_text() for kind in ("tex", "bib"))
    cited = set(re.findall(r"\\cite\w+\{(\w+)\}", text))
    listed = set(re.findall(r"@misc\{(\w+),", entries))
    assert len(listed) >= 5
    assert cited <= listed
    assert {"Ward1963", "Varoquaux2010", "Ledoit2004", "Lindquist2019"} <= cited


FULL = {
    "denoising": {"confounds": "scrubbing", "low_pass": 0.1, "high_pass": 0.01},
    "parcellation": {"n_parcels": "auto", "individual": True},
    "signals": {"connectivity": ["pearson", "partial", "tangent"]},
    "quality": {"level": "full"},
}


@pytest.fixture(scope="module", params=["ward", "rena", "kmeans"])
def all_forms(request, study, tmp_path_factory):
    """The methods of a job that uses all that there is, in the folder where they are written."""
    folder = tmp_path_factory.mktemp("methods")
    options = {"bids_dir": str(study[0]), "output_dir": str(folder), "analysis_level": "group", **FULL}
    parcellation = FULL["parcellation"] | {"method": request.param, "contiguous": request.param == "kmeans"}
    write_boilerplate(build_config(options | {"parcellation": parcellation}))
    return folder / "logs"


def form(folder, kind):
    return (folder / f"CITATION.{kind}").read_text()


def test_each_form_says_the_same(all_forms):
    body, _, listed = form(all_forms, "md").partition("## References\n")
    references = [Reference.parse(line.removeprefix("- ")) for line in listed.splitlines() if line]
    assert len(references) >= 8
    cited = body
    for reference in references:
        cited, n_mentions = reference.mention.subn(reference.key, cited)
        assert n_mentions >= 1, "what is listed is cited"
    assert not re.search(r"\b(19|20)\d\d[),;]", cited), "what is cited is listed"

    text = form(all_forms, "tex")
    latex = text[text.index(r"\begin{document}") + 16 : text.index(r"\bibliographystyle")]
    latex = re.sub(r"\\(?:cite\w+|(?:sub)*section\*)\{(\w+)\}", r"\1", latex).replace("\\%", "%")
    assert latex.split() == re.sub(r"^#+ ", "", cited, flags=re.MULTILINE).split()

    page = html.unescape(re.sub(r"<title>.*?</title>|<[^>]*>", " ", form(all_forms, "html")))
    assert page.split() == re.sub(r"^(#+|-) ", "", form(all_forms, "md"), flags=re.MULTILINE).split()

    entries = dict(re.findall(r"@misc\{(\w+),\n(.*?)^\}", form(all_forms, "bib"), flags=re.DOTALL | re.MULTILINE))
    assert set(entries) == {reference.key for reference in references}
    assert set(re.findall(r"\\cite\w+\{(\w+)\}", text)) == set(entries)


def test_latex_makes_a_document_of_it(all_forms, tmp_path):
    for program in ("pdflatex", "bibtex"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} found: apt-get install texlive-latex-base")
    shutil.copytree(all_forms, tmp_path, dirs_exist_ok=True)
    latex = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "CITATION"]
    for command in (latex, ["bibtex", "CITATION"], latex, latex):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    log = (tmp_path / "CITATION.log").read_text(errors="replace")
    assert "Output written on CITATION.pdf" in log
    assert "undefined" not in log
    assert "Warning" not in log
    assert "warning$ -- 0" in (tmp_path / "CITATION.blg").read_text()


def test_texts_that_are_no_reference_are_refused():
    with pytest.raises(ValueError, match="no reference of the form"):
        Reference.parse("Ward, 1963")


def test_containers_are_recognised(tmp_path):
    assert find_container({}) is None
    assert find_container({"APPTAINER_CONTAINER": "/a/b.sif"}).name == "b.sif"
    docker = find_container({"BIDS_PARCELLATE_DOCKER_TAG": "bids/bids-parcellate:1.0"})
    assert (docker.kind, docker.name) == ("docker", "bids/bids-parcellate:1.0")
    assert image_version(tmp_path / "version") is None
    (tmp_path / "version").write_text("1.0\n")
    assert image_version(tmp_path / "version") == "1.0"


def test_signals_of_another_denoising_that_parcels_leave_behind_are_announced(study, outputs, tmp_path, capsys):
    folder = shutil.copytree(outputs, tmp_path / "copy")
    assert job(study, folder, "--nprocs", "1", "--standardize", "psc") == 0
    assert "time series of another denoising" not in capsys.readouterr().err, "the parcels are the same"
    assert job(study, folder, "--nprocs", "1", "--smoothing-fwhm", "10") == 0
    assert "time series of another denoising" in capsys.readouterr().err
