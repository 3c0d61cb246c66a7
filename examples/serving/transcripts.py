"""What every recipe prints, run as its README says in clean environments.

    python transcripts.py FOLDER [RECIPE ...]

FOLDER gets a text for each recipe: the commands of its README, each with what it
printed, but for warnings. Each `pip install` among them is done in a new virtual
environment, in which the commands below it run.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).parent

ENVIRONMENT = {
    "PIP_QUIET": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def commands_of(readme: str) -> list[str]:
    """Return the commands of a README, in order."""
    found = []
    for kind, block in re.findall(r"```(bash|console)\n(.*?)```", readme, re.S):
        for line in block.splitlines():
            if kind == "bash" or line.startswith("$ "):
                found.append(line.removeprefix("$ "))
    return found


def parts_of(commands: list[str]) -> list[list[str]]:
    """Return the commands of each environment, which begin with what it installs."""
    parts: list[list[str]] = []
    for command in commands:
        if command.startswith("pip install"):
            parts.append([])
        parts[-1].append(command)
    return parts


def said(commands: list[str], folder: Path, environment: Path) -> str:
    """Return what some commands print in a new environment; the first one installs."""
    venv.create(environment, with_pip=True, clear=True)
    shown = (f"printf '%s\\n' {shlex.quote(f'$ {c}')}\n{c}" for c in commands)
    stopped = ["trap 'kill $(jobs -p)' EXIT"] if _serves(commands) else []
    lines = "\n".join(["set -e", *stopped, *shown])
    path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        ["bash", "-c", lines],
        env={**kept, **ENVIRONMENT, "PATH": path},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}\n{done.stderr}\n{commands[0]} has failed")
    return done.stdout


def _serves(commands: list[str]) -> bool:
    return any(command.endswith("&") for command in commands)


def transcript(recipe: str, folder: Path) -> str:
    """Return the commands of a recipe with what they print."""
    work = folder / "serving"
    shutil.copytree(HERE, work, ignore=shutil.ignore_patterns("__pycache__", "served"))
    commands = commands_of((work / recipe / "README.md").read_text(encoding="utf-8"))
    parts = enumerate(parts_of(commands))
    return "\n".join(said(part, work, folder / f"venv{n}") for n, part in parts)


def main(target: Path, *recipes: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for recipe in recipes or sorted(p.parent.name for p in HERE.glob("*/README.md")):
        with tempfile.TemporaryDirectory() as folder:
            text = transcript(recipe, Path(folder))
        (target / f"{recipe}.txt").write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
