"""The site that Sphinx makes of docs/: no warning, every example run, nothing of the code left out."""

import html
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from golfzoo.engine.kinds import KINDS
from golfzoo.tables import TABLES
from test_docs import PAGES, blocks, every_command

ROOT = Path(__file__).parent.parent

pytest.importorskip("sphinx", reason="the extra [docs] is not installed")
pytestmark = pytest.mark.slow


def sphinx(builder, folder):
    """Build docs/ with warnings as errors. Returns what was printed."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-b", builder, "docs", folder / builder]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    return built.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def site(folder):
    """Where the site lies."""
    sphinx("html", folder)
    return folder / "html"


@pytest.fixture(scope="module")
def handbook():
    """The extension of docs/, to be imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs" / "_ext"))
        yield


def text_of(page):
    """What a page of the site shows."""
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text()))


def test_every_page_is_in_the_site_and_its_contents(site):
    index = (site / "index.html").read_text()
    contents = index[index.index('class="sidebar-tree"') : index.index('class="main"')]
    pages = {page.removeprefix("docs/").removesuffix(".md") for page in PAGES if page.startswith("docs/")}
    assert len(pages) > 20
    for page in pages - {"index"}:
        assert (site / f"{page}.html").exists(), page
        assert f'href="{page}.html"' in contents, page


def test_every_link_of_the_site_leads_somewhere(site):
    pages = {path: path.read_text() for path in site.rglob("*.html")}
    names = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in pages.items()}
    followed = 0
    for path, text in pages.items():
        for link in map(html.unescape, re.findall(r'<a [^>]*href="([^"]*)"', text)):
            target = urlsplit(link)
            if target.scheme or not (target.path or target.fragment):
                continue
            there = (path.parent / unquote(target.path)).resolve() if target.path else path
            assert there.is_file(), f"{path}: {link}"
            assert not target.fragment or there not in names or target.fragment in names[there], f"{path}: {link}"
            followed += 1
    assert followed > 1000


def test_nothing_is_fetched_by_a_reader(site):
    for page in site.rglob("*.html"):
        assert "system-message" not in page.read_text(), f"{page}: what docutils could not make sense of"
        loaded = re.findall(r'<(?:script|img|link)\b[^>]*?(?:src|href)="(https?:[^"]*)"', page.read_text())
        assert not loaded, f"{page}: {loaded}"


def test_files_that_pages_link_to_are_shown(site):
    record = ROOT / "records" / "baseline.toml"
    assert record.read_text().strip() in text_of(site / "files" / "records" / "baseline.toml.html")
    changes = site / "files" / "CHANGELOG.md.html"
    assert text_of(changes).count("in the shape of Keep a Changelog") == 1
    assert '<a class="reference external" href="../plugin-api.html">docs/plugin-api.md</a>' in changes.read_text()
    assert "golfzoo_bzip2/compressor.py" in text_of(site / "files" / "tests" / "example_plugin.html")


def test_every_example_is_run(folder):
    told = "\n".join(code for text in PAGES.values() for code in blocks("{doctest}", text))
    examples = len(re.findall(r"^>>> ", told, flags=re.M))
    ran = int(re.search(r"Doctest summary\n=+\n +(\d+) tests\n +0 failures", sphinx("doctest", folder))[1])
    assert ran == examples > 10


# ---- what is told from the code --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_s_page_has_every_component_and_option(site, zoo, kind):
    page = site / "kinds" / f"{kind}s.html"
    shown, text = page.read_text(), " ".join(text_of(page).split())
    for name in zoo.names(kind):
        entry = zoo.find(kind, name)
        assert f">{name}<a" in shown, name
        assert " ".join(entry.component.summary.replace("`", "").split()) in text
        for option, field in entry.component.config.model_fields.items():
            assert f'<span class="pre">{option}</span>' in shown, f"{name}: {option}"
            assert " ".join(field.description.replace("`", "").split()) in text, f"{name}: {option}"
    assert f"golfzoo_{kind}s" in shown, "what its hook says"


def test_the_reference_has_every_key_and_command(site):
    record, commands = text_of(site / "reference" / "record.html"), text_of(site / "reference" / "commands.html")
    for name, table in TABLES.items():
        assert f"[{name}]" in record
        assert all(f"\n{key}\n" in record for key in table.model_fields), name
    for name, command in every_command().items():
        if name:
            assert f"\ngolfzoo {name}" in commands
            options = [option for parameter in command.params for option in getattr(parameter, "opts", [])]
            assert all(option in commands for option in options if option.startswith("--")), name


def test_the_python_reference_has_the_public_names(site):
    import golfzoo
    from golfzoo import engine
    from golfzoo.engine import protocols

    shown = (site / "reference" / "python.html").read_text()
    for module in (golfzoo, engine):
        assert all(f'id="{module.__name__}.{name}"' in shown for name in module.__all__)
    assert all(f'id="golfzoo.testing.{name}"' in shown for name in ("check_plugin", "check_component"))
    told = [name for name, thing in vars(protocols).items() if getattr(thing, "__module__", "") == protocols.__name__]
    assert len(told) > 15
    assert all(f'id="golfzoo.engine.protocols.{name}"' in shown for name in told)


def test_the_drawing_is_of_the_run(site):
    from golfzoo.engine.stages import STAGES

    page = (site / "engine.html").read_text()
    drawn = page[page.index('<svg class="run-drawing"') :]
    drawn = drawn[: drawn.index("</svg>")]
    for kind in KINDS.values():
        assert kind.name in re.findall(r">([^<]+)</text></a>", drawn) or not kind.stages, kind.name
    told = " ".join(re.findall(r">stages: ([^<]+)<", drawn))
    assert [name for name in re.findall(r"\w+", told) if name in STAGES] == [*STAGES]
    assert "quantize or fit" in told


def test_a_drawing_follows_its_code(handbook):
    from handbook.drawing import draw, sections

    source = """
def run():
    # ---- first: what it is for --------
    stages.run("train", train)
    # ---- second --------
    with clock.stage("load"):
        pass
    if fits:
        x = stages.run("quantize", quantize)
    else:
        x = stages.run("fit", fit)
"""
    first, second = sections(source)
    assert (first.title, first.remark, first.stages) == ("first", "what it is for", ["train"])
    assert second.told_stages == "load, quantize or fit"
    assert [kind.name for kind in second.kinds] == ["quantizer", "compressor"]
    drawn = draw(source, lambda kind: f"to-{kind.name}")
    assert drawn.count('href="to-quantizer"') == 1
    assert "what it is for" in drawn


def test_docstrings_become_markup(handbook):
    from handbook.docstrings import restructured

    given = ["Does `this` to *args.", "    code(*args)", "name     what it is,\n         and more\nb   `b`", ">>> 1\n1"]
    made = [
        r"Does ``this`` to \*args.",
        "::\n\n    code(*args)",
        "``name``\n    what it is, and more\n``b``\n    ``b``",
        ".. code-block:: pycon\n\n    >>> 1\n    1",
    ]
    assert restructured("\n\n".join(given)) == "\n\n".join(made) + "\n"


def test_a_page_is_put_into_the_contents_by_a_line_on_the_index(handbook):
    from handbook.contents import sections

    index = (
        "# Pages\n\n- [Not below a heading](no.md)\n\n## Use\n\nText.\n\n- [One](one.md): it\n- [Else](../X.md): no\n"
    )
    assert sections(index) == [("Use", [("One", "one")])]
