"""The house's rules, held over the source itself: layout, import direction, purity, module heads."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import dns
import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("discovery", "kv", "dns")
# Each may import only what stands for it on the right; "discovery" is a module at its top.
BELOW = {
    "discovery.errors": set(),
    "discovery.histogram": set(),
    "discovery.kv": {"discovery.errors", "discovery.histogram", "discovery.kv"},
    "discovery.dns": {"discovery.dns", "discovery.histogram"},
    "discovery.names": {"discovery.errors"},
    "discovery.service": {"discovery.names"},
    "discovery.tree": {"discovery.names", "discovery.service", "discovery.kv.contract"},
    "discovery.agent": {
        "discovery.errors",
        "discovery.client",
        "discovery.config_rules",
        "discovery.yaml_source",
        "discovery.agent",
    },
    "discovery.client": {
        "discovery.errors",
        "discovery.config_rules",
        "discovery.service",
        "discovery.client",
    },
    "discovery.view": {"discovery.names", "discovery.service", "discovery.tree", "discovery.kv.contract"},
}
# What lies above: only those on the right may import it.
ONLY_FROM = {
    "discovery.cli": {"discovery.cli", "discovery.__main__"},
    "discovery.node": {"discovery.cli"},
    "discovery.agent": {"discovery.cli", "discovery.agent"},
    "discovery.api": {"discovery.api", "discovery.node"},
    "discovery.workers": {"discovery.node", "discovery.workers", "discovery.api.parts"},
    "discovery.dns.server": {"discovery.node", "discovery.dns_settings"},
    "discovery.feed": {
        "discovery.node",
        "discovery.api",
        "discovery.registry",
        "discovery.raw_keys",
        "discovery.draining",
        "discovery.batch_writes",
    },
    "discovery.registry": {"discovery.node", "discovery.api", "discovery.batch_writes"},
    "discovery.batch_writes": {"discovery.api"},
}
PURE = {
    "discovery/names.py",
    "discovery/service.py",
    "discovery/catalog.py",
    "discovery/history.py",
    "discovery/tokens.py",
    "discovery/api/events.py",
    "discovery/api/rate.py",
    "discovery/api/admission.py",
    "discovery/api/docs_page.py",
    "discovery/api/roles.py",
    "discovery/tree.py",
    "discovery/view.py",
    "discovery/errors.py",
    "discovery/histogram.py",
    "discovery/client/errors.py",
    "discovery/client/fields.py",
    "discovery/client/order.py",
    "discovery/client/pace.py",
    "discovery/client/watched.py",
    "discovery/workers/messages.py",
    "discovery/workers/published.py",
    "kv/contract.py",
    "kv/leases.py",
    "kv/etcd_codec.py",
    "kv/etcd_errors.py",
    "kv/etcd_urls.py",
    "kv/guard.py",
    "kv/member_plan.py",
    "kv/member_verdicts.py",
    "kv/remaining.py",
    "dns/source.py",
    "dns/zone.py",
    "dns/wire.py",
    "dns/records.py",
    "dns/matching.py",
    "dns/following.py",
    "dns/stamps.py",
    "dns/synthesis.py",
    "dns/answer.py",
    "dns/access.py",
    "dns/admission.py",
    "dns/rrl.py",
    "dns/buckets.py",
    "dns/busiest.py",
    "dns/cache.py",
    "dns/kept.py",
    "dns/connections.py",
    "dns/padding.py",
    "dns/missing.py",
    "dns/plain.py",
    "dns/cookies.py",
    "dns/options.py",
    "dns/counters.py",
    "dns/responder.py",
    "dns/foreign.py",
    "dns/own.py",
    "dns/trace.py",
    "dns/explain.py",
    "dns/export.py",
    "dns/text.py",
}
IMPURE_MODULES = {"asyncio", "socket", "time", "random", "sqlite3", "aiohttp", "os", "threading"}
ENGINES = ("discovery.kv.embedded", "discovery.kv.etcd", "discovery.kv.member")


@cache
def sources() -> list[tuple[str, str, ast.Module]]:
    """(path, module, tree) of every module of the package."""
    return list(_sources())


def _sources() -> Iterator[tuple[str, str, ast.Module]]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT)
            if path.name.endswith("_pb2.py"):
                continue  # generated
            if relative.parts[:2] in (("discovery", "kv"), ("discovery", "dns")):
                continue  # the links: their files come under their own folders
            module = ".".join(relative.with_suffix("").parts)
            if folder != "discovery":
                module = f"discovery.{module}"
            yield str(relative), module.removesuffix(".__init__"), ast.parse(path.read_text())


@cache
def imports(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def lies_in(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def test_dnspython_is_not_hidden() -> None:
    assert "site-packages" in str(dns.__file__)
    assert not (ROOT / "dns" / "__init__.py").exists()
    assert (ROOT / "discovery" / "dns").is_symlink()
    assert (ROOT / "discovery" / "kv").is_symlink()


def test_the_two_folders_are_imported_under_one_name_only() -> None:
    for path, _, tree in sources():
        for module in imports(tree):
            assert not lies_in(module, "kv"), f"{path} imports {module}: discovery.kv is its name"
            assert not lies_in(module, "dns"), f"{path} imports dnspython, which only tests may"
    for test in ROOT.glob("tests/**/*.py"):
        text = test.read_text()
        if re.search(r"^\s*(import|from)\s.*\bkv\b", text, re.M):  # to parse all of them takes seconds
            for module in imports(ast.parse(text)):
                assert not lies_in(module, "kv"), f"{test} imports {module}: discovery.kv is its name"


def test_imports_point_down() -> None:
    for path, module, tree in sources():
        rule = max((each for each in BELOW if lies_in(module, each)), key=len, default=None)
        if rule is None:
            continue
        allowed = BELOW[rule]
        for imported in imports(tree):
            if lies_in(imported, "discovery") and imported not in ("discovery", "discovery.__version__"):
                assert any(lies_in(imported, each) for each in allowed), f"{path} imports {imported}"


def test_what_lies_above_is_imported_only_from_above() -> None:
    seen = set()
    for path, module, tree in sources():
        for imported in imports(tree):
            for above, importers in ONLY_FROM.items():
                if lies_in(imported, above):
                    seen.add(above)
                    assert any(lies_in(module, each) for each in importers), f"{path} imports {imported}"
    assert seen == set(ONLY_FROM)


def test_only_the_node_and_the_commands_on_a_store_name_an_engine() -> None:
    for path, module, tree in sources():
        if lies_in(module, "discovery.kv") or module == "discovery.node" or lies_in(module, "discovery.cli"):
            continue
        for imported in imports(tree):
            assert not any(lies_in(imported, engine) for engine in ENGINES), f"{path} imports {imported}"


def test_pure_modules_do_no_io_and_read_no_clock() -> None:
    seen = set()
    for path, _, tree in sources():
        if path in PURE:
            seen.add(path)
            assert not IMPURE_MODULES & {module.partition(".")[0] for module in imports(tree)}, path
    assert seen == PURE


def test_every_module_says_what_it_owns() -> None:
    for path, _, tree in sources():
        head = ast.get_docstring(tree)
        assert head, f"{path} has no head"
        assert len(head.splitlines()) <= 12, f"{path}: the head is longer than 12 lines"


def test_no_module_is_too_long() -> None:
    for path, _, _ in sources():
        assert len((ROOT / path).read_text().splitlines()) <= 500, path


@pytest.mark.slow
@pytest.mark.parametrize("compiler", [None, "/bin/false"], ids=["compiled", "without a compiler"])
def test_the_wheel_holds_every_module(tmp_path: Path, compiler: str | None) -> None:
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "*.so", "build", "__pycache__", "tests", "*.egg-info")
    shutil.copytree(ROOT, source, symlinks=True, ignore=ignored)
    target = ("--wheel-dir", str(tmp_path), str(source))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *target]
    subprocess.run(command, check=True, env=os.environ | ({"CC": compiler} if compiler else {}))
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert any(name.startswith("discovery/dns/_fast.") and name.endswith(".so") for name in packed) == (
        compiler is None
    )
    for _, module, _ in sources():
        file = module.replace(".", "/")
        assert {f"{file}.py", f"{file}/__init__.py"} & packed, module
    assert "discovery/py.typed" in packed
    for asset in (ROOT / "discovery" / "web").iterdir():
        assert f"discovery/web/{asset.name}" in packed


@pytest.mark.slow
def test_the_compiled_part_compiles_without_a_warning() -> None:
    include = sysconfig.get_paths()["include"]
    strict = (
        "-std=c11",
        "-Wall",
        "-Wextra",
        "-Wconversion",
        "-Wno-missing-field-initializers",
        "-Werror",
        "-O2",
    )
    subprocess.run(
        ["cc", *strict, "-fPIC", "-c", "-o", "/dev/null", f"-I{include}", ROOT / "dns" / "_fast.c"],
        check=True,
    )


def test_the_compiled_part_is_what_runs_here() -> None:
    """Else the tests and figures of it would be those of Python."""
    headers = Path(sysconfig.get_paths()["include"], "Python.h").exists()
    wanted = headers and shutil.which("cc") is not None and "TEST_PYTHON" not in os.environ
    assert not wanted or find_spec("discovery.dns._fast") is not None
