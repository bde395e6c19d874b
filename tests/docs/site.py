"""What the site has beside docs/: README, CHANGELOG and the examples; mkdocs calls these hooks.

The pages of the repository stay as they are, to be read there; what is said for the tests in
comments (`<!-- file: NAME -->`) becomes a code block's title.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ICON = ROOT / "src" / "replank" / "web" / "static" / "icon.svg"
PLACES = {"README.md": "about.md", "CHANGELOG.md": "changes.md", "examples": "examples.md"}
"""By its place in the repository, where a page stands on the site."""
_LINK = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)]*)?\))")
_FILE = re.compile(r"^<!-- file: (.+?) -->\n```(\w+)$", re.MULTILINE)
_MARK = re.compile(
    r"^<!-- (?:run|background|shown|phases|end of phases|written|measured|end of measured|demo|end of demo)\b.*-->\n",
    re.MULTILINE,
)


def examples() -> str:
    """Return the examples as one page."""
    parts = ["# Examples\n"]
    for path in sorted((ROOT / "examples").rglob("*")):
        if path.suffix in {".py", ".toml"}:
            language = {".py": "python", ".toml": "toml"}[path.suffix]
            name = path.relative_to(ROOT).as_posix()
            parts.append(f'```{language} title="{name}"\n{path.read_text("utf-8").rstrip()}\n```\n')
    return "\n".join(parts)


def rewritten(text: str, repository_path: str, site_path: str) -> str:
    """Return a page for the site.

    Args:
        text: The page as it stands in the repository.
        repository_path: Where it stands there.
        site_path: Where it stands on the site.
    """
    text = _FILE.sub(r'```\2 title="\1"', text)
    text = _MARK.sub("", text)
    here, there = posixpath.dirname(repository_path), posixpath.dirname(site_path) or "."

    def moved(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, found[2]))
        place = PLACES.get(target) or target.removeprefix("docs/")
        return f"{found[1]}{posixpath.relpath(place, there)}{found[3]}"

    return _LINK.sub(moved, text)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are no part of docs/."""
    from mkdocs.structure.files import File

    for name in ("README.md", "CHANGELOG.md"):
        text = rewritten((ROOT / name).read_text("utf-8"), name, PLACES[name])
        files.append(File.generated(config, PLACES[name], content=text))
    files.append(File.generated(config, PLACES["examples"], content=examples()))
    files.append(File.generated(config, "images/icon.svg", abs_src_path=str(ICON)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Rewrite a page of docs/ for the site."""
    path = page.file.src_uri
    if path in PLACES.values():
        return markdown
    return rewritten(markdown, f"docs/{path}", path)
