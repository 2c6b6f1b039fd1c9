"""The signature behind a ``_target_``, read from the source without importing it.

Importing a target to look at its arguments would load torch before the first typo is reported. The file is found on
the import path and parsed; names that a package re-exports are followed to where they are defined.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from temmed.config.wording import suggestion
from temmed.errors import InputError

_MOST_HOPS = 20  # re-exports and base classes followed before giving up
_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Parameter:
    """One argument: its annotation as written, and whether it has no default."""

    annotation: ast.expr | None
    required: bool


@dataclass(frozen=True)
class Signature:
    """What a class or function can be called with by name.

    Args:
        name: the name of the class or function.
        parameters: by name, in order.
        takes_any: it has ``**kwargs``, so that an unknown name may still be right.
    """

    name: str
    parameters: dict[str, Parameter]
    takes_any: bool


class _UnknownError(Exception):
    """The source does not tell (compiled code, names made at run time)."""


@dataclass(frozen=True)
class _Module:
    name: str
    path: Path

    @property
    def package(self) -> str:
        """The package to which relative imports of this module refer."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


@functools.cache
def signature(target: str, where: str) -> Signature | None:
    """The signature of the class or function with the dotted path ``target``.

    Args:
        target: for example ``temmed.models.temporal.none.NoMemory``.
        where: the key of the configuration that names it, for the message.

    Returns:
        None if the source cannot tell.

    Raises:
        InputError: if there is no such package, module or name.
    """
    parts = target.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise InputError(
            expected="the dotted path of a class or function",
            found=repr(target),
            where=f"{where}._target_",
            remedy="Write it as package.module.Class.",
        )
    try:
        module, rest = _module(parts, where)
        return _signature(*_definition(module, rest[0], where), tuple(rest[1:]), where)
    except _UnknownError:
        return None


def _module(parts: list[str], where: str) -> tuple[_Module, list[str]]:
    """The module that the first names of a dotted path lead to, and the names that are left."""
    spec = importlib.util.find_spec(parts[0])
    if spec is None:
        raise InputError(
            expected="an installed package",
            found=repr(parts[0]),
            where=f"{where}._target_",
            remedy=f"Install {parts[0]} or correct the name.",
        )
    if spec.origin is None or not spec.origin.endswith(".py"):
        raise _UnknownError
    module = _Module(parts[0], Path(spec.origin))
    for count, part in enumerate(parts[1:], start=1):
        if module.path.name != "__init__.py":
            return module, parts[count:]
        folder = module.path.parent
        for candidate in (folder / part / "__init__.py", folder / f"{part}.py"):
            if candidate.is_file():
                module = _Module(f"{module.name}.{part}", candidate)
                break
        else:
            return module, parts[count:]
    raise InputError(
        expected="a class or function",
        found=f"the module {'.'.join(parts)}",
        where=f"{where}._target_",
        remedy="Add the name of the class.",
    )


@functools.cache
def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise _UnknownError from error


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run on import, also those inside ``if`` and ``try``."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If):
            yield from _statements(statement.body + statement.orelse)
        elif isinstance(statement, ast.Try):
            handlers = [line for handler in statement.handlers for line in handler.body]
            yield from _statements(statement.body + handlers + statement.orelse + statement.finalbody)


def _definition(module: _Module, name: str, where: str, hops: int = 0) -> tuple[_Module, _Definition]:
    """The definition that ``name`` stands for in ``module``, through re-exports."""
    if hops > _MOST_HOPS:
        raise _UnknownError
    defined: set[str] = set()
    opaque = False
    for statement in _statements(_parsed(module.path).body):
        if isinstance(statement, _Definition):
            if statement.name == name:
                return module, statement
            defined.add(statement.name)
            opaque |= statement.name == "__getattr__"
        elif isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if name == (alias.asname or alias.name):
                    return _imported(module, statement, alias.name, where, hops)
                opaque |= alias.name == "*"
                defined.add(alias.asname or alias.name)
        elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.Import):
            opaque |= any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(statement))
            opaque |= isinstance(statement, ast.Import) and any(
                name == (alias.asname or alias.name) for alias in statement.names
            )
    if opaque:
        raise _UnknownError
    folder = module.path.parent
    if module.path.name == "__init__.py":
        if next(folder.glob(f"{name}.*.so"), None) or next(folder.glob(f"{name}.*.pyd"), None):
            raise _UnknownError
        defined |= {path.stem for path in folder.glob("*.py")} | {
            path.parent.name for path in folder.glob("*/__init__.py")
        }
    public = sorted(candidate for candidate in defined if not candidate.startswith("_"))
    raise InputError(
        expected=f"a module, class or function in {module.name}",
        found=repr(name),
        where=f"{where}._target_",
        remedy=suggestion(name, public),
    )


def _imported(
    module: _Module, statement: ast.ImportFrom, name: str, where: str, hops: int
) -> tuple[_Module, _Definition]:
    """Follow ``from … import name`` to the definition. A library's own wrong turn is not the user's to hear of."""
    source = statement.module or ""
    if statement.level:
        base = module.package.split(".")
        base = base[: len(base) - (statement.level - 1)]
        source = ".".join([*base, source] if source else base)
    try:
        found, rest = _module([*source.split("."), name], where)
        if len(rest) != 1:
            raise _UnknownError
        return _definition(found, rest[0], where, hops + 1)
    except InputError as error:
        raise _UnknownError from error


def _signature(home: _Module, definition: _Definition, rest: tuple[str, ...], where: str, hops: int = 0) -> Signature:
    """The signature of a definition; ``rest`` may name a method that builds the object."""
    if isinstance(definition, ast.ClassDef):
        method = rest[0] if rest else "__init__"
        for statement in reversed(definition.body):
            if isinstance(statement, ast.FunctionDef) and statement.name == method:
                bound = not any(_name(decorator) == "staticmethod" for decorator in statement.decorator_list)
                return _from_function(f"{definition.name}.{method}" if rest else definition.name, statement, bound)
        if rest or hops > _MOST_HOPS:
            raise _UnknownError
        inherited = _inherited(home, definition, where, hops)
        if any(_name(decorator) == "dataclass" for decorator in definition.decorator_list):
            own = _fields(definition)
            return Signature(definition.name, {**(inherited.parameters if inherited else {}), **own}, takes_any=False)
        if inherited is not None:
            return Signature(definition.name, inherited.parameters, inherited.takes_any)
        return Signature(definition.name, {}, takes_any=False)
    if rest:
        raise _UnknownError
    return _from_function(definition.name, definition, bound=False)


def _inherited(home: _Module, definition: ast.ClassDef, where: str, hops: int) -> Signature | None:
    """The signature of the first base class; None if there is none but ``object``."""
    for base in definition.bases:
        if isinstance(base, ast.Subscript):
            base = base.value
        if _name(base) in {"object", "Protocol", "Generic", "ABC"}:
            continue
        if not isinstance(base, ast.Name):
            raise _UnknownError
        try:
            found, parent = _definition(home, base.id, where, hops + 1)
        except InputError as error:
            raise _UnknownError from error
        return _signature(found, parent, (), where, hops + 1)
    return None


def _from_function(name: str, function: ast.FunctionDef | ast.AsyncFunctionDef, bound: bool) -> Signature:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    without_default = len(positional) - len(arguments.defaults)
    parameters = {
        argument.arg: Parameter(argument.annotation, required=index < without_default)
        for index, argument in enumerate(positional)
        if index >= int(bound)
    }
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        parameters[argument.arg] = Parameter(argument.annotation, required=default is None)
    return Signature(name, parameters, takes_any=arguments.kwarg is not None)


def _fields(definition: ast.ClassDef) -> dict[str, Parameter]:
    """The fields of a dataclass that its ``__init__`` takes."""
    fields: dict[str, Parameter] = {}
    for statement in definition.body:
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        annotation = statement.annotation
        if _name(annotation.value if isinstance(annotation, ast.Subscript) else annotation) == "ClassVar":
            continue
        required = statement.value is None
        if isinstance(statement.value, ast.Call) and _name(statement.value) == "field":
            options = {keyword.arg: keyword.value for keyword in statement.value.keywords}
            init = options.get("init")
            if isinstance(init, ast.Constant) and init.value is False:
                continue
            required = not {"default", "default_factory"} & options.keys()
        fields[statement.target.id] = Parameter(annotation, required)
    return fields


def _name(expression: ast.expr) -> str:
    """The last name of a dotted expression or of what it calls."""
    if isinstance(expression, ast.Call):
        expression = expression.func
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else ""
