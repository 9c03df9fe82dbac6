"""What ships with a body: all that it imports from distributions with plugins, whatever its shape; and what cannot."""

import importlib.metadata
import json
import sys
from importlib.machinery import EXTENSION_SUFFIXES

import pytest

from golfzoo.errors import PluginError
from golfzoo.shipping.closure import closure, imported_names, requirement_bytes, requirements

FACE = """
from golfzoo import Component, Config, hookimpl

class BoxConfig(Config):
    pass
"""


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Make a distribution of files, as pip would leave it; `faces` are its entry points."""

    def make(name, files, faces=(), top_level=(), version="1.0", **metadata):
        site = tmp_path / f"site-{name}"
        for path, text in files.items():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_bytes(text if isinstance(text, bytes) else text.encode())
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "RECORD").write_text("".join(f"{path},,{len(text)}\n" for path, text in files.items()))
        if top_level:
            (info / "top_level.txt").write_text("\n".join(top_level))
        if faces:
            points = "\n".join(f"{face.removeprefix('golfzoo_')} = {face}" for face in faces)
            (info / "entry_points.txt").write_text(f"[golfzoo]\n{points}\n")
        for file, text in metadata.items():
            (info / file.replace("__", ".")).write_text(text)
        monkeypatch.syspath_prepend(str(site))
        return site

    return make


def box(distribution, body, faces=("golfzoo_box",), **files):
    """A plugin golfzoo_box with that body, and more files of its package, with `__` for a dot in their names."""
    more = {f"golfzoo_box/{name if '.' in name else name.replace('__', '.')}": text for name, text in files.items()}
    distribution("box", {"golfzoo_box/__init__.py": FACE, "golfzoo_box/body.py": body, **more}, faces)


def ours(*entries):
    return {name for name in closure(list(entries)) if not name.startswith("golfzoo.")}


def refusal(*entries):
    with pytest.raises(PluginError) as caught:
        closure(list(entries) or ["golfzoo_box.body"])
    (line,) = str(caught.value).splitlines()
    return line


# ---- what is followed ------------------------------------------------------------------------------------------------


def test_a_plugin_on_another_distributions_plugin(distribution):
    distribution(
        "base", {"golfzoo_base/__init__.py": FACE, "golfzoo_base/core.py": "import zlib\nX = 1\n"}, ["golfzoo_base"]
    )
    box(distribution, "from golfzoo_base.core import X\nfrom golfzoo_zlib import compressor\n")
    assert ours("golfzoo_box.body") == {"golfzoo_box.body", "golfzoo_base.core", "golfzoo_zlib.compressor"}


def test_helper_modules_and_second_packages_of_the_distribution(distribution):
    files = {
        "golfzoo_box/__init__.py": FACE,
        "golfzoo_box/body.py": "import box_helper\nfrom box_tools.deep import inner\n",
        "box_helper.py": "import box_tools.other as other\n",
        "box_tools/__init__.py": "",
        "box_tools/other.py": "",
        "box_tools/deep/__init__.py": "from . import sibling\n",
        "box_tools/deep/inner.py": "",
        "box_tools/deep/sibling.py": "",
    }
    distribution("box", files, ["golfzoo_box"], ["golfzoo_box", "box_helper", "box_tools"])
    found = {"box_helper", "box_tools.other", "box_tools.deep", "box_tools.deep.inner", "box_tools.deep.sibling"}
    assert ours("golfzoo_box.body") == {"golfzoo_box.body", *found}


def test_a_project_that_is_installed_to_be_edited(distribution, tmp_path):
    """Its metadata need not name its packages; where they lie does."""
    files = {"golfzoo_box/__init__.py": FACE, "golfzoo_box/body.py": "import box_second\n", "box_second.py": ""}
    url = json.dumps({"url": (tmp_path / "site-box").as_uri(), "dir_info": {"editable": True}})
    distribution("box", files, ["golfzoo_box"], direct_url__json=url, RECORD="")
    assert ours("golfzoo_box.body") == {"golfzoo_box.body", "box_second"}


def test_a_library_s_package_ships_as_itself_and_a_face_does_not(distribution):
    library = {
        "box_library/__init__.py": "from box_library.a import x\n",
        "box_library/a.py": "x = 1\n",
        "box_library/sub/__init__.py": "'''Nothing.'''\n",
        "box_library/sub/b.py": "from ..a import x\n",
        "golfzoo_box/__init__.py": FACE,
        "golfzoo_box/body.py": "import box_library.sub.b\nfrom golfzoo_box import other\n",
        "golfzoo_box/other.py": "",
    }
    distribution("box", library, ["golfzoo_box"], ["box_library", "golfzoo_box"])
    found = closure(["golfzoo_box.body"])
    assert set(found) == {
        *("golfzoo_box.body", "golfzoo_box.other", "box_library", "box_library.a", "box_library.sub.b")
    }
    assert found["box_library"].name == "__init__.py"


def test_a_namespace_of_several_distributions(distribution):
    distribution(
        "one",
        {"shared_ns/one/__init__.py": FACE, "shared_ns/one/body.py": "import shared_ns.two.part\n"},
        ["shared_ns.one"],
    )
    distribution("two", {"shared_ns/two/__init__.py": FACE, "shared_ns/two/part.py": ""}, ["shared_ns.two"])
    assert ours("shared_ns.one.body") == {"shared_ns.one.body", "shared_ns.two.part"}


CONDITIONAL = """
from contextlib import suppress
import importlib
try:
    import golfzoo_box.missing
    from golfzoo_box.gone import this
except (ValueError, ImportError):
    from golfzoo_box import fallback
try:
    from . import absent, tried
except ModuleNotFoundError as error:
    absent = None
with suppress(ImportError):
    import golfzoo_box.nowhere
def f():
    from golfzoo_box.late import g
    import no_such_library_at_all
    if f:
        return importlib.import_module("golfzoo_box.named"), importlib.import_module(".near", "golfzoo_box")
"""


def test_conditional_imports(distribution):
    names = ("fallback", "tried", "late", "named", "near")
    box(distribution, CONDITIONAL, **{f"{name}__py": "g = 1\n" for name in names})
    assert ours("golfzoo_box.body") == {"golfzoo_box.body", *(f"golfzoo_box.{name}" for name in names)}


CHECKED = """
from __future__ import annotations
import typing
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from golfzoo_box import BoxConfig
    import golfzoo.record
else:
    import golfzoo_box.other
def f(x: BoxConfig):
    if typing.TYPE_CHECKING:
        from golfzoo import Config
    elif x:
        import golfzoo_box.more
"""


def test_what_only_a_type_checker_sees_is_not_followed(distribution):
    box(distribution, CHECKED, other__py="", more__py="")
    assert ours("golfzoo_box.body") == {"golfzoo_box.body", "golfzoo_box.other", "golfzoo_box.more"}


def test_of_the_engine_comes_what_is_imported():
    found = set(closure(["golfzoo.engine.errors"]))
    assert found == {"golfzoo.engine", "golfzoo.engine.errors"}


def test_names_as_they_are_imported():
    source = "import a.b, c\nfrom . import d\nfrom ..e import f as g\nfrom h import *\n"
    assert imported_names("p.q", source) == {"a.b", "c", "p.q.d", "p.e.f", "h.*"}


# ---- data ------------------------------------------------------------------------------------------------------------

READERS = {
    "a path": "from pathlib import Path\ntext = Path(__file__).with_name('table.json').read_text()\n",
    "importlib.resources": "from importlib.resources import files\nt = files('golfzoo_box').joinpath('t')\n",
    "another name of it": "from importlib import resources as r\nx = r\n",
    "pkgutil": "import pkgutil\ndata = pkgutil.get_data('golfzoo_box', 't')\n",
}


@pytest.mark.parametrize("reader", READERS)
def test_data_ships_where_a_module_may_read_it(distribution, reader):
    extension = EXTENSION_SUFFIXES[0]
    files = {
        "table__json": "{}", "deep/kernel__cu": "x", "deep/weights__bin": bytes(range(256)),
        "unused__py": "", "py__typed": "", "body__pyi": "", ".hidden": "", f"fast{extension}": b"\x7fELF",
    }  # fmt: skip
    box(distribution, "import golfzoo_box.reader\n", reader__py=READERS[reader], **files)
    data = {"golfzoo_box/table.json", "golfzoo_box/deep/kernel.cu", "golfzoo_box/deep/weights.bin"}
    assert ours("golfzoo_box.body") == {"golfzoo_box.body", "golfzoo_box.reader"} | data


def test_data_that_nothing_reads_stays_behind(distribution):
    box(distribution, "import golfzoo_box.other\n", other__py="", table__json="{}", **{"lib.so": b""})
    assert ours("golfzoo_box.body") == {"golfzoo_box.body", "golfzoo_box.other"}


# ---- what is refused, in one line ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "imported"),
    [
        ("import golfzoo", "golfzoo"),
        ("from golfzoo import Config", "golfzoo.Config"),
        ("from golfzoo.record import load_record", "golfzoo.record.load_record"),
        ("def f():\n    import golfzoo.zoo as zoo", "golfzoo.zoo"),
        ("try:\n    from golfzoo.config import suggest\nexcept ImportError:\n    pass", "golfzoo.config.suggest"),
    ],
)
def test_the_host_at_run_time(distribution, line, imported):
    box(distribution, line + "\n")
    assert f"module 'golfzoo_box.body' imports {imported!r} when it runs, and golfzoo itself does not" in refusal()


@pytest.mark.parametrize(
    ("line", "imported", "face"),
    [
        ("import golfzoo_box", "golfzoo_box", "golfzoo_box"),
        ("from . import BoxConfig", "golfzoo_box.BoxConfig", "golfzoo_box"),
        ("from golfzoo_muon import MuonConfig", "golfzoo_muon.MuonConfig", "golfzoo_muon"),
    ],
)
def test_a_face_at_run_time(distribution, line, imported, face):
    box(distribution, line + "\n")
    assert f"'golfzoo_box.body' imports {imported!r} when it runs, and {face!r} is the face of a plugin" in refusal()


def test_what_has_no_source(distribution):
    extension = EXTENSION_SUFFIXES[0]
    body = "try:\n    from golfzoo_box import fast\nexcept ImportError:\n    fast = None\n"
    box(distribution, body, **{f"fast{extension}": b"\x7fELF"})
    assert refusal() == (
        "module 'golfzoo_box.body' imports 'golfzoo_box.fast', which has no Python source, "
        "so it cannot ship in a submission"
    )


def test_compiled_data(distribution):
    box(distribution, "x = __file__\n", **{"ops.so": b"\x7fELF"})
    assert refusal() == "golfzoo_box/ops.so is compiled, so it cannot ship in a submission"


def test_what_is_not_there(distribution):
    box(distribution, "from golfzoo_box.missing import x\n")
    assert refusal() == "there is no module 'golfzoo_box.missing', which module 'golfzoo_box.body' imports"
    assert (
        refusal("golfzoo_box.nobody") == "there is no module 'golfzoo_box.nobody', which a component's target imports"
    )


def test_a_module_of_no_distribution(distribution, tmp_path, monkeypatch):
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "loose_helper.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "loose"))
    box(distribution, "import loose_helper\n")
    assert "module 'golfzoo_box.body' imports 'loose_helper', which is of no installed distribution" in refusal()


@pytest.mark.parametrize("source", ["def f(:\n", "x = '\0'\n", "from ... import x\n", b"# coding: no-such\n"])
def test_what_cannot_be_read(distribution, source):
    box(distribution, source)
    assert refusal().startswith("module 'golfzoo_box.body' cannot be read: ")


# ---- what is required ------------------------------------------------------------------------------------------------


def test_other_distributions_are_required_with_version_and_size(distribution):
    distribution("plain-lib", {"plain_lib/__init__.py": "x = 1\n"}, top_level=["plain_lib"], version="2.5+local")
    distribution("space-a", {"spaced/a.py": ""}, top_level=["spaced"], version="3.0")
    distribution("space-b", {"spaced/b.py": "x"}, top_level=["spaced"], version="4.0")
    optional = "try:\n    import no_such_library\nexcept ImportError:\n    pass\n"
    box(distribution, f"import plain_lib, json\nimport spaced.b\ndef f():\n    import numpy\n{optional}")
    found = closure(["golfzoo_box.body"])
    numpy = f"numpy=={importlib.metadata.version('numpy').partition('+')[0]}"
    assert requirements(found) == [numpy, "plain-lib==2.5", "space-b==4.0"]
    sizes = requirement_bytes(found)
    assert list(sizes) == requirements(found)
    assert sizes["plain-lib==2.5"] == 6
    assert sizes[numpy] > 1_000_000


def test_nothing_is_imported_to_find_out(distribution):
    box(distribution, "import golfzoo_box.bomb.fuse\n", **{"bomb/__init__.py": "1 / 0\n", "bomb/fuse__py": "1 / 0\n"})
    assert ours("golfzoo_box.body") == {"golfzoo_box.body", "golfzoo_box.bomb", "golfzoo_box.bomb.fuse"}
    assert not [name for name in sys.modules if name.partition(".")[0] == "golfzoo_box"]
