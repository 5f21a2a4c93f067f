"""Users' files: neighbors first, no library's modules replaced; every failure one message with its line; hashes of all that is imported."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from marlstone.core.errors import UserError
from marlstone.core.fingerprints import changed_fingerprints, fingerprints
from marlstone.core.user_code import load


def write(folder: Path, **files: str) -> Path:
    """Files of a folder by name, `__` standing for `/`; returns `main.py`."""
    for name, text in files.items():
        file = folder / f"{name.replace('__', '/', 1)}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
    return folder / "main.py"


def test_a_neighbor_wins_over_what_is_installed_and_imported(tmp_path: Path) -> None:
    """A package loaded already, one that was never loaded, a module of the standard library; in functions too, and through a helper."""
    import rich as installed  # a package that every installation has

    wave = sys.modules.pop("wave", None)
    main = write(
        tmp_path,
        main="""
            import rich
            import helper
            def lazy():
                import wave, rich.leaf as leaf
                from fractions import ABOVE
                return rich.NAME, wave.NAME, leaf.NAME, ABOVE, helper.seen()
            """,
        wave="NAME = 'my wave'",
        fractions="ABOVE = 'my fractions'",
        helper="""
            def seen():
                import rich
                return rich.NAME
            """,
    )
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich" / "__init__.py").write_text("NAME = 'my rich'\nfrom . import leaf\n")
    (tmp_path / "rich" / "leaf.py").write_text("import wave\nNAME = 'leaf of ' + wave.NAME\n")
    assert load(main).lazy() == ("my rich", "my wave", "leaf of my wave", "my fractions", "my rich")
    import fractions
    import wave as real

    import rich

    assert rich is installed and hasattr(rich, "get_console") and hasattr(real, "open") and hasattr(fractions, "Fraction")
    if wave is not None:
        sys.modules["wave"] = wave


def test_two_folders_with_modules_of_the_same_names(tmp_path: Path) -> None:
    for where in ("a", "b"):
        write(tmp_path / where, main="import common\nfrom sim import core\nNAME = common.NAME + core.NAME", common=f"NAME = '{where}'")
        write(tmp_path / where, sim__core=f"NAME = 'sim {where}'")
    assert [load(tmp_path / where / "main.py").NAME for where in ("a", "b", "a")] == ["asim a", "bsim b", "asim a"]


def test_what_python_began_with_stays_and_a_file_does_not_mean_itself(tmp_path: Path) -> None:
    write(tmp_path, os="WRONG = 1", sys="WRONG = 1", main="import os, sys\nassert os.path and sys.path")
    load(tmp_path / "main.py")
    (tmp_path / "json.py").write_text("import json\nloads = json.loads")
    assert load(tmp_path / "json.py").loads is json.loads


def test_a_sibling_may_be_imported_relatively_and_dataclasses_work(tmp_path: Path) -> None:
    write(
        tmp_path,
        main="""
            from __future__ import annotations
            from dataclasses import dataclass
            from typing import get_type_hints
            from .near import Near
            @dataclass(frozen=True)
            class Mine:
                near: Near = Near()
            assert get_type_hints(Mine)['near'] is Near
            """,
        near="from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Near: pass\n",
    )
    module = load(tmp_path / "main.py")
    assert load(str(tmp_path / "main.py")) is module and module.Mine().near == module.Near()


def test_an_edit_within_the_same_second_is_seen_by_the_next_process(tmp_path: Path) -> None:
    """Bytecode of the same date and size must not be believed."""
    code = f"from marlstone.core.user_code import load; print(load({str(tmp_path / 'main.py')!r}).x)"
    shown = []
    for x in (1, 2):
        write(tmp_path, main="from near import x", near=f"x = {x}")
        shown.append(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    assert shown == ["1", "2"]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"main": "x = 1\ndef f(:\n"}, "main.py line 2: SyntaxError"),
        (
            {"main": "import os\nimport nowhere_at_all\n"},
            "main.py line 2: ModuleNotFoundError: No module named 'nowhere_at_all': install it",
        ),
        ({"main": "\n\nraise KeyError('z')\n"}, "main.py line 3: KeyError: 'z'"),
        ({"main": "import near\n", "near": "def f():\n  return 1 / 0\nf()\n"}, "near.py line 2: ZeroDivisionError"),
        ({"main": "import near\n", "near": "x = = 1\n"}, "near.py line 1: SyntaxError"),
        ({"main": "from tree import NOTHING\n", "tree": "x = 1\n"}, "cannot import name 'NOTHING' from 'tree'"),
        ({"main": "import json\njson.loads('{')\n"}, "main.py line 2: JSONDecodeError"),
        ({"main": "import sys\nsys.exit(3)\n"}, "main.py line 2: SystemExit: 3"),
        ({"main": "\0"}, "main.py"),
        ({"near": ""}, "there is no file"),
    ],
)
def test_every_failure_is_one_message_with_file_and_line(tmp_path: Path, files: dict[str, str], says: str) -> None:
    with pytest.raises(UserError) as error:
        load(write(tmp_path, **files))
    assert says in str(error.value) and "marlstone_user" not in str(error.value)
    if "main" in files:
        assert load(write(tmp_path, main="x = 1")).x == 1  # what failed is not kept


def test_fingerprints_follow_imports_within_the_folder(tmp_path: Path) -> None:
    main = write(
        tmp_path / "here",
        main="""
            import numpy, near
            def lazy():
                from pack.deep import thing
                import importlib
                importlib.import_module("named")
            """,
        near="from . import beside",
        beside="",
        pack__deep="from .more import x",
        pack__more="x = 1",
        named="",
        unused="",
    )
    then = fingerprints(main)
    assert sorted(then) == ["beside.py", "main.py", "named.py", "near.py", "pack/deep.py", "pack/more.py"]
    write(tmp_path / "here", pack__more="x = 2", unused="changed", beside="import unused")
    (tmp_path / "here" / "named.py").unlink()
    now = fingerprints(main)
    assert (
        changed_fingerprints(then, now) == ["beside.py", "named.py", "pack/more.py", "unused.py"] and changed_fingerprints(now, now) == []
    )
