"""Fingerprints of code: has what computed a result changed since?

`modules` follows the imports of a module through the package, those inside functions too, and gives each module that it
reaches the hash of its syntax tree. Docstrings, comments, layout and the names of local variables do not count. Modules
that only write results (`BOOKKEEPING`) are left out. Chapter: `book/10-measuring.ipynb`.
"""

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msdm_lite
from msdm_lite.errors import InputError
from msdm_lite.utils import paths

NAME = "msdm_lite"
# They find, write and describe files, and compute no number of a result
BOOKKEEPING = {f"{NAME}.{module}" for module in (
    "errors", "evaluation.records", "studies.runner", "utils.files", "utils.fingerprint", "utils.imports",
    "utils.paths", "utils.plugins", "utils.provenance", "utils.terminal")}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
IGNORED_FIELDS = {"ctx", "type_comment", "kind"}


def modules(of: str) -> dict[str, str]:
    """The modules that one module depends on, itself among them: name -> hash of eight digits, in order of name.

    Args:
        of: the name of a module, such as "msdm_lite.studies.context", or the path of a file. Of what is outside of the
            package, modules in the same folder are followed too, and are named by their files.

    Raises:
        InputError: there is no such module or file, or one is not valid Python.
    """
    return {name: _hash(path) for name, path in sorted(files(of).items())}


def files(of: str) -> dict[str, Path]:
    """The files of the modules that one module depends on, by name; see `modules`.

    Raises:
        InputError: there is no such module or file, or one is not valid Python.
    """
    start = located(of)
    found, open_ = {title(start): start}, [start]
    while open_:
        path = open_.pop()
        for name in _imports(path.read_text(encoding="utf-8"), str(path), package_of(path)):
            other = _file_of(name, path.parent)
            if other is not None and name not in BOOKKEEPING and title(other) not in found:
                found[title(other)] = other
                open_.append(other)
    return found


def located(of: str) -> Path:
    """The file of a module that is given by its name or its path; a path may be relative to the checkout.

    Raises:
        InputError: there is none.
    """
    if of.endswith(".py"):
        found = next((path for path in (Path(of), paths.PACKAGE.parent / of) if path.is_file()), None)
    else:
        found = _file_of(of, Path.cwd())
        if found is None and (file := getattr(sys.modules.get(of), "__file__", None)):
            found = Path(file)
    if found is None:
        raise InputError(f"there is no module {of} here")
    return found.resolve()


def title(path: Path) -> str:
    """The name of a module of the package without its first word, such as "diffusion.guidance", or another file's path.

    The path is relative to the checkout or to the current folder, where the file is in one of them.
    """
    if path.is_relative_to(paths.PACKAGE):
        return ".".join(path.relative_to(paths.PACKAGE).with_suffix("").parts)
    for folder in (paths.PACKAGE.parent, Path.cwd()):
        if path.is_relative_to(folder):
            return str(path.relative_to(folder))
    return str(path)


def package_of(path: Path) -> str:
    """The package that relative imports in a file start from, such as "msdm_lite.studies"; "" outside of ours."""
    if not path.is_relative_to(paths.PACKAGE):
        return ""
    return ".".join((NAME, *path.parent.relative_to(paths.PACKAGE).parts))


def _file_of(name: str, folder: Path) -> Path | None:
    """The file of a module of the package, or of one beside `folder`'s files; None for libraries and for packages."""
    first, *others = name.split(".")
    root = paths.PACKAGE if first == NAME else folder / first
    path = root.joinpath(*others)
    path = path.with_name(f"{path.name}.py")
    return path.resolve() if path.is_file() else None


@cache
def _imports(source: str, path: str, package: str) -> frozenset[str]:
    """The full names that a source imports, of modules or of what is in them; those for type checkers left out."""
    found = set()
    for node in _executed(_parsed(source, path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package) if node.level else (
                node.module or "")
            found |= {base, *(_home(base, alias.name) for alias in node.names)}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == NAME:
            found.add(_home(NAME, node.attr))
    return frozenset(found)


def _home(module: str, name: str) -> str:
    """The module in which `module.name` is: what the package itself offers is in another one."""
    if module == NAME and name in msdm_lite._HOMES:
        return f"{NAME}.{msdm_lite._HOMES[name]}"
    return f"{module}.{name}"


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below one, without the blocks under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for other in child.orelse:
                yield other
                yield from _executed(other)
            continue
        yield child
        yield from _executed(child)


def _parsed(source: str, path: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as problem:
        raise InputError(f"{path} is not valid Python (line {problem.lineno})") from None


def _hash(path: Path) -> str:
    return hash_of(path.read_text(encoding="utf-8"), str(path))


@cache
def hash_of(source: str, path: str = "the source") -> str:
    """The hash of a source, eight hexadecimal digits: the same in all versions of Python.

    Raises:
        InputError: it is not valid Python.
    """
    return hashlib.sha256("\n".join(_words(_parsed(source, path), [])).encode()).hexdigest()[:8]


Scopes = list[dict[str, str]]  # of the functions around a node, the outermost first: name in the source -> name here


def _words(node: object, scopes: Scopes) -> Iterator[str]:
    """A syntax tree as words, without what does not count."""
    if isinstance(node, list):
        yield from (word for item in node for word in _words(item, scopes))
        return
    if not isinstance(node, ast.AST):
        yield f"{type(node).__name__} {node!r}"
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring, or dots
    yield type(node).__name__
    inner = scopes
    if isinstance(node, FUNCTIONS + COMPREHENSIONS):
        inner = [*scopes, _local_names(node, len(scopes))]
    for name, value in ast.iter_fields(node):
        if value is None or value == [] or name in IGNORED_FIELDS:
            continue
        yield f".{name}"
        if name in ("decorator_list", "args", "returns") and isinstance(node, FUNCTIONS):
            yield from _words(value, scopes)  # defaults, annotations and decorators belong to what is around
        elif isinstance(value, str) and _is_a_name(node, name):
            yield _renamed(value, scopes)
        elif isinstance(value, list) and isinstance(node, ast.Global | ast.Nonlocal):
            yield from (_renamed(each, scopes) for each in value)
        else:
            yield from _words(value, inner)


def _is_a_name(node: ast.AST, field: str) -> bool:
    """Whether a text field of a node is the name of a variable."""
    return (isinstance(node, ast.Name) and field == "id") or (isinstance(node, ast.alias) and field == "asname") or (
        isinstance(node, ast.ExceptHandler | ast.FunctionDef | ast.ClassDef) and field == "name")


def _renamed(name: str, scopes: Scopes) -> str:
    return next((scope[name] for scope in reversed(scopes) if name in scope), name)


def _local_names(node: ast.AST, depth: int) -> dict[str, str]:
    """New names of the local variables of a function or a comprehension. Parameters keep theirs: callers use them."""
    kept: dict[str, str] = {}
    bound: dict[str, None] = {}  # in order of appearance
    elsewhere: set[str] = set()  # bound by an outer function
    if isinstance(node, FUNCTIONS):
        given = node.args
        names = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
        kept = {each.arg: each.arg for each in names}
        body = node.body if isinstance(node.body, list) else [node.body]
    else:
        body = [generator.target for generator in getattr(node, "generators", [])]
    for child in (inner for statement in body for inner in _own(statement)):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            bound[child.id] = None
        elif isinstance(child, ast.ExceptHandler | ast.FunctionDef | ast.ClassDef) and child.name:
            bound[child.name] = None
        elif isinstance(child, ast.alias) and child.asname:
            bound[child.asname] = None
        elif isinstance(child, ast.Global):
            kept |= {name: name for name in child.names}
        elif isinstance(child, ast.Nonlocal):
            elsewhere.update(child.names)
    own = [name for name in bound if name not in kept and name not in elsewhere]
    return kept | {name: f"local {depth}.{number}" for number, name in enumerate(own)}


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it that belong to the same scope."""
    yield node
    if not isinstance(node, (*FUNCTIONS, *COMPREHENSIONS, ast.ClassDef)):
        for child in ast.iter_child_nodes(node):
            yield from _own(child)
