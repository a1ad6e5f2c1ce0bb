"""`instar networks`: what can be built by name."""

import json

import pytest

from command_line import Command


def test_our_own_forms_and_those_of_libraries(instar: Command) -> None:
    done = instar("networks")
    assert done.returncode == 0, done.stderr
    for name in ("mlp:UNITSxLAYERS", "resnet:20", "272,474", "timm:NAME", "transformers:NAME_OR_PATH"):
        assert name in done.stdout


def test_names_that_hold_a_word_with_their_weights(instar: Command) -> None:
    found = {one["name"]: one for one in json.loads(instar("networks", "shufflenet", "--json").stdout)["networks"]}
    assert found["torchvision:shufflenet_v2_x0_5"]["parameters"] == 1_366_792
    found = {one["name"]: one for one in json.loads(instar("networks", "test_res", "--json").stdout)["networks"]}
    assert found["timm:test_resnet"] == {
        "name": "timm:test_resnet",
        "example": None,
        "parameters": 469_688,
        "pretrained": 1,
    }


def test_a_word_that_no_name_holds(instar: Command) -> None:
    done = instar("networks", "nothing_like_it")
    assert done.returncode == 2
    assert "no network's name holds 'nothing_like_it'" in done.stderr


def test_a_bad_teacher_is_one_line_and_leaves_nothing(instar: Command, tmp_path: pytest.TempPathFactory) -> None:
    done = instar("distill", "--teacher", "timm:resnet81@pretrained", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "did you mean resnet18" in done.stderr
    assert not list(tmp_path.iterdir())
