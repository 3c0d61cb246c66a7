"""The command line when something is wrong, and as a program with help."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import skood
from skood.cli import main, make_parser

# What goes wrong ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fit KKN train.npy m", "there is no detector 'KKN': did you mean KNN"),
        ("fit KNN train.npy m --set k=3", "KNN has no parameter 'k'; it has n_neigh"),
        ("fit KNN train.npy m --set n_neighbors=0", "'n_neighbors' parameter"),
        ("fit KNN train.npy m --layers 1", "--network and --layers go together"),
        ("fit KNN train.npy m --confidence 0.9", "--confidence is of --max-false"),
        ("fit KNN train.npy m --alpha 0.1 --max-false-alarm 0.1", "give one"),
        ("fit sklearn.svm:OneClassSVM train.npy m --threshold-data test.npy", "or --a"),
        ("fit KNN train.npy m --threshold-data inputs.npy", "threshold_data: "),
        ("fit KNN labelled.npz m --labels train.npy", "has shape (180, 5)"),
        ("fit no.such:Thing train.npy m", "the detector is 'no.such:Thing', which"),
        ("layers cli_nets", "the network is 'cli_nets': wanted is package.module:name"),
        ("layers cli_nets:tiny", "has no attribute 'tiny'"),
        ("score model near.npy --out s.xls", "wanted is a .csv, .parquet or .npz"),
        ("score nowhere near.npy", "nowhere"),
        ("score train.npy near.npy", "train.npy"),
        ("score model inputs.npy", "dim"),
        ("inspect model.pkl", "there is no file"),
        ("evaluate model test.npy --outliers a=near.npy a=far.npy", "two sets are"),
        ("layers cli_nets:small far.npy", "input to conv2d, but got input of size"),
        ("layers cli_nets:small images", "odd.png is 9 x 9, others 7 x 9: give --im"),
    ],
)
def test_one_line_says_what_is_wrong(skood_, model, line, message, folder):
    if "odd.png" in message:
        Image.new("RGB", (9, 9)).save(folder / "images" / "odd.png")
    code, out, errors = skood_(*line.split())
    (folder / "images" / "odd.png").unlink(missing_ok=True)
    assert code == 1
    assert out == ""
    assert errors.count("\n") == 1
    assert errors.startswith(f"skood {line.split()[0]}: error: ")
    assert message in errors


def test_errors_that_are_nobodys_fault_are_shown_whole(skood_):
    with pytest.raises(ZeroDivisionError, match="this network is broken"):
        skood_("layers", "cli_nets:broken")
    with pytest.raises(ValueError, match="there is no detector"):
        skood_("fit", "KKN", "train.npy", "m", "--traceback")


@pytest.mark.filterwarnings("always:max_false_alarm=:UserWarning")
def test_warnings_take_a_line(skood_, tmp_path):
    line = ("fit", "KNN", "train.npy", tmp_path / "m", "--max-false-alarm", 0.001)
    code, _, errors = skood_(*line)
    assert code == 0
    assert errors.startswith("skood fit: warning: ")
    assert errors.count("\n") == errors.count("skood fit: ")


@pytest.mark.parametrize("line", ["", "fit", "score a", "fly", "completion tcsh"])
def test_argparse_answers_with_two(line, capsys):
    with pytest.raises(SystemExit) as error:
        main(line.split())
    assert error.value.code == 2
    assert "usage: skood" in capsys.readouterr().err


# The whole program -------------------------------------------------------------------


def program(*line, **options):
    return subprocess.run(
        [sys.executable, "-m", "skood", *line],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(skood.__file__).parents[1])},
        **options,
    )


def test_the_program_finds_modules_beside_it(folder):
    done = program("layers", "cli_nets:small", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "0" in json.loads(done.stdout)["layers"].split()


def test_help_is_quick_and_has_examples():
    """It imports neither torch nor scikit-learn."""
    code = (
        "import sys; from skood.cli import make_parser; make_parser().format_help();"
        "print({'torch', 'sklearn', 'pandas'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def commands():
    actions = make_parser()._actions
    return next(a.choices for a in actions if isinstance(a.choices, dict))


@pytest.mark.parametrize("name", [*commands()])
def test_every_help_stands_alone(name):
    text = commands()[name].format_help()
    assert f"  skood {name} " in text
    assert f"skood {name}" in text.split("example", 1)[1]
    assert all(len(line) <= 88 for line in text.splitlines())
    for action in commands()[name]._actions:
        assert action.help or action.metavar, action.dest


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_shell_completes(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    file = tmp_path / "completion.bash"
    file.write_text(capsys.readouterr().out)

    def completed(*words):
        line = " ".join(map(repr, words))
        done = subprocess.run(
            [
                "bash",
                "-c",
                f"source {file}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
                "_skood; echo ${COMPREPLY[@]}",
            ],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        return done.stdout.split()

    (tmp_path / "features.npz").touch()
    assert completed("skood", "e") == ["extract", "evaluate", "export"]
    assert completed("skood", "fit", "--max") == ["--max-false-alarm"]
    assert completed("skood", "fit", "KNN", "feat") == ["features.npz"]
    assert completed("skood", "completion", "z") == ["zsh"]


def test_zsh_gets_the_same_by_its_own_door(capsys):
    main(["completion", "bash"])
    bash = capsys.readouterr().out
    main(["completion", "zsh"])
    zsh = capsys.readouterr().out
    assert zsh == f"autoload -U +X bashcompinit && bashcompinit\n{bash}"
