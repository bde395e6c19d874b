"""Write docs/reference/config.md from config.py: `python -m tests.docs.config_page`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import msgspec

from replank import config, config_http, config_isolation, config_reload, settings
from replank.live_config import is_live

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "config.md"

HEAD = """\
# Configuration: `replank.toml`

<!-- written by `python -m tests.docs.config_page` from config.py and settings.py; do not edit by hand -->

```toml
[modules]
ledger = "ledger.py"                # short form: the source alone

[modules.api]
source = "shop/api"                 # a package folder
drain_timeout_s = 10

[http]
port = 8321
```

Paths are relative to the file. An unknown key, a wrong type or a value out of range is refused with file, line, what was found and what was expected.

A variable of the environment stands above the file: `REPLANK_HTTP_PORT=0` above `[http] port`, `REPLANK_DATA_DIR` above `data_dir`, `REPLANK_MODULES_LEDGER_SOURCE` above `source` of the module `ledger`.
Lists are written as in TOML.
A variable with a wrong value, or one that names no setting, is refused by its name.

`replank config reload` has a running host read the file again; with `--watch` a save of it is enough.
The file is checked first; when something is wrong, nothing changes.
Keys marked *live* hold at once; of the others it says that they need a restart, as for modules that come or go.
`replank config check` checks a file without a host.
"""


def sections() -> dict[str, type[msgspec.Struct]]:
    """Return every table of the file, in the order of the code."""
    found: dict[str, type[msgspec.Struct]] = {
        "": config.Config,
        "modules.NAME": config.ModuleConfig,
    }
    for field in msgspec.structs.fields(config.Config):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found[field.name] = field.type
    return found


def descriptions() -> dict[tuple[str, str], str]:
    """Return the text under each field, by class and field."""
    modules = (config, config_http, config_isolation, config_reload, settings)
    files = [Path(str(one.__file__)) for one in modules]
    trees = [ast.parse(file.read_text("utf-8")) for file in files]
    found = {}
    for node in (node for tree in trees for node in tree.body):
        if isinstance(node, ast.ClassDef):
            for one, after in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(one, ast.AnnAssign)
                    and isinstance(one.target, ast.Name)
                    and isinstance(after, ast.Expr)
                    and isinstance(after.value, ast.Constant)
                ):
                    text = " ".join(str(after.value.value).split())
                    found[node.name, one.target.id] = text
    return found


def rows(section: str, kind: type[msgspec.Struct]) -> Iterator[str]:
    texts = descriptions()
    for field in msgspec.structs.fields(kind):
        owners = (one.__name__ for one in kind.__mro__)
        text = next((texts[one, field.name] for one in owners if (one, field.name) in texts), None)
        if text is None:
            continue  # a section or the modules: they have tables of their own
        key = f"{section}.{field.name}" if section else field.name
        live = "live" if is_live(key) else "restart"
        yield f"| `{field.name}` | {default(field)} | {live} | {text} |"


def default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    if field.default is None:
        return "none"
    made = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    value = msgspec.json.encode(made).decode()
    return f"`{value}`"


def page() -> str:
    parts = [HEAD]
    for section, kind in sections().items():
        title = f"## `[{section}]`" if section else "## Top level"
        table = ["| key | default | changes | means |", "|---|---|---|---|", *rows(section, kind)]
        parts.append("\n".join([title, "", *table]) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
