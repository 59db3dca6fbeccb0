"""To shap and back: values, base values, data, names and standard errors are kept; what is ambiguous is asked for."""

import sys
import types
from typing import Any

import numpy as np
import pytest
import torch

import pellucid as pel
from pellucid.core.errors import NotApplicable, UnknownName, UsageError
from pellucid.core.players import Players
from pellucid.views.choose import scenes
from unit.explanations import explanation, photo

FIELDS = ("values", "base_values", "data", "feature_names", "output_names", "error_std", "compute_time")


class Shap(types.SimpleNamespace):
    """A stand-in with the fields of `shap.Explanation` (0.51.0)."""

    def __init__(self, values: Any, base_values: Any = None, data: Any = None, **other: Any) -> None:
        assert set(other) <= set(FIELDS)
        super().__init__(**{**dict.fromkeys(FIELDS), "values": values, "base_values": base_values, "data": data, **other})


@pytest.fixture(params=["stand-in", "shap"])
def shap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "shap":
        return pytest.importorskip("shap", exc_type=ImportError).Explanation
    monkeypatch.setitem(sys.modules, "shap", types.SimpleNamespace(Explanation=Shap))  # type: ignore[arg-type]
    return Shap


def table() -> Any:
    values = torch.tensor([[3.0, -2.0], [1.0, 0.5]]).double()
    players = Players((("age", "bmi"),) * 2, values, values.abs() / 10)
    ends = {"base": torch.tensor([1.0, 2.0]).double(), "total": torch.tensor([2.0, 3.5]).double()}
    return explanation(values, players=players, axes=("row", "column"), point=torch.tensor([[40.0, 22.0], [50.0, 30.0]]), **ends)


def test_a_table_goes_there_and_comes_back(shap: Any) -> None:
    e = table()
    s = e.to_shap()
    assert isinstance(s, shap)
    assert np.array_equal(s.values, e.players.values.numpy())
    assert np.array_equal(s.base_values, [1, 2])
    assert np.array_equal(s.data, e.point.numpy())
    assert list(s.feature_names) == ["age", "bmi"]
    assert s.output_names == "espresso (967)"
    assert np.array_equal(s.error_std, e.players.error.numpy())
    back = pel.from_shap(s)
    assert torch.equal(back.values, e.values)
    assert torch.equal(back.players.error, e.players.error)
    assert torch.equal(back.total, e.total)
    assert torch.equal(back.base, e.base)
    assert torch.equal(back.point, e.point.double())
    assert back.players.names == e.players.names
    assert back.target == e.target
    assert [v.kind for v in scenes(back)] == ["waterfall", "bar"]


def test_a_mixed_table_has_its_cells_as_data(shap: Any) -> None:
    values = torch.ones(2, 2).double()
    e = explanation(values, players=Players((("age = 40", "sex = f"), ("age = 50", "sex = m")), values), axes=("row", "column"), point=torch.ones(2, 2))
    s = e.to_shap()
    assert list(s.feature_names) == ["age", "sex"]
    assert s.data.tolist() == [[40.0, "f"], [50.0, "m"]]
    assert pel.from_shap(s).players.names == (("age", "sex = f"), ("age", "sex = m"))


def test_texts_of_unlike_length_go_there_and_come_back(shap: Any) -> None:
    values = torch.tensor([[0.5, -0.5, 0.1], [0.2, 0.3, 0.0]], dtype=torch.float64)
    e = explanation(values, players=Players((("not", "bad", "."), ("so", "good")), values), axes=("row", "word"), base=torch.zeros(2), total=values.sum(1))
    s = e.to_shap()
    assert [list(v) for v in s.values] == [[0.5, -0.5, 0.1], [0.2, 0.3]]
    assert [list(d) for d in s.data] == [["not", "bad", "."], ["so", "good"]]
    back = pel.from_shap(s)
    assert back.players.names == e.players.names
    assert torch.equal(back.values, values)
    assert scenes(back)[0].kind == "tint"


def test_maps_go_channels_last(shap: Any) -> None:
    e = photo()
    s = e.to_shap()
    assert np.asarray(s.values).shape == (1, 32, 32, 3)
    back = pel.from_shap(s)
    assert torch.equal(back.values, e.values.double())
    assert torch.equal(back.picture, e.picture)
    assert scenes(back)[0].kind == "map"


def test_values_without_players_keep_their_names(shap: Any) -> None:
    e = explanation(torch.randn(2, 3), axes=("row", "column"), names={"column": ["a", "b", "c"]}, error=torch.rand(2, 3))
    s = e.to_shap()
    assert list(s.feature_names) == ["a", "b", "c"]
    assert np.allclose(s.error_std, e.error.numpy())


def test_one_of_several_outputs_is_asked_for(shap: Any) -> None:
    s = shap(np.arange(12.0).reshape(2, 3, 2), base_values=np.array([[0.1, 0.9]] * 2), data=np.ones((2, 3)) * 7, feature_names=["a", "b", "c"], output_names=["no", "yes"])
    with pytest.raises(UsageError, match="no, yes"):
        pel.from_shap(s)
    with pytest.raises(UnknownName, match="yes"):
        pel.from_shap(s, output="yess")
    with pytest.raises(UsageError, match="between 0 and 1"):
        pel.from_shap(s, output=2)
    by_name, by_number = pel.from_shap(s, output="yes"), pel.from_shap(s, output=1)
    assert torch.equal(by_name.values, by_number.values)
    assert torch.equal(by_name.values, torch.tensor([[1.0, 3.0, 5.0], [7.0, 9.0, 11.0]]).double())
    assert by_name.base.tolist() == [0.9, 0.9]
    assert (by_name.target[0], by_number.target[0]) == ("yes", "yes (1)")


def test_one_row_may_come_without_its_axis(shap: Any) -> None:
    e = pel.from_shap(shap(np.array([1.0, -1.0]), base_values=0.5, data=np.array([3.0, 4.0]), feature_names=["a", "b"]))
    assert e.values.shape == (1, 2)
    assert e.total.tolist() == [0.5]
    assert e.point.tolist() == [[3.0, 4.0]]
    assert e.target == ("the output",)


def test_cells_that_are_no_numbers_stand_in_the_names(shap: Any) -> None:
    data = np.array([["male", 3.0]], dtype=object)
    e = pel.from_shap(shap(np.array([[1.0, -1.0]]), base_values=np.array([0.5]), data=data, feature_names=["sex", "age"]))
    assert e.players.names == (("sex = male", "age"),)
    assert [p.told for p in scenes(e)[-1].shown] == ["sex = male", "age = 3"]


def test_without_base_or_names_less_is_known(shap: Any) -> None:
    e = pel.from_shap(shap(np.array([[1.0, -1.0]])))
    assert e.base is None
    assert e.players.names == (("column 0", "column 1"),)
    assert [v.kind for v in scenes(e)] == ["bar"]


def test_interactions_are_refused(shap: Any) -> None:
    with pytest.raises(UsageError, match="Interactions"):
        pel.from_shap(shap(np.ones((2, 3, 3)), base_values=np.array([0.1, 0.2]), data=np.ones((2, 3))), output=0)


def test_values_that_are_no_numbers_are_refused(shap: Any) -> None:
    with pytest.raises(UsageError, match="finite"):
        pel.from_shap(shap(np.array([[1.0, np.nan]]), base_values=np.zeros(1), data=np.ones((1, 2))))


def test_an_output_where_there_is_one_is_refused(shap: Any) -> None:
    with pytest.raises(UsageError, match="explains one"):
        pel.from_shap(shap(np.ones((2, 3)), base_values=np.zeros(2), data=np.ones((2, 3))), output=0)


def test_a_tree_of_inputs_is_refused(shap: Any) -> None:
    with pytest.raises(NotApplicable, match="one tensor"):
        explanation({"a": torch.ones(2, 3), "b": torch.ones(2, 2)}).to_shap()


def test_without_shap_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(UsageError, match=r"pellucid\[shap\]"):
        table().to_shap()
    assert pel.from_shap(Shap(np.ones((1, 2)), np.zeros(1), np.ones((1, 2)))).values.shape == (1, 2)


def test_what_came_from_shap_is_kept_and_shown(tmp_path: Any) -> None:
    e = pel.from_shap(Shap(np.array([[1.0, -1.0]]), np.zeros(1), np.ones((1, 2)) * 3, feature_names=["a", "b"], error_std=np.full((1, 2), 0.1), compute_time=1.5))
    again = pel.Explanation.load(e.save(tmp_path / "e.safetensors"))
    assert torch.equal(again.players.error, e.players.error)
    assert e.cost.seconds == 1.5
    assert "made by shap" in e.save(tmp_path / "e.html").read_text()
