import pytest
from matplotlib.colors import same_color
from matplotlib.image import imread
from matplotlib.patches import Rectangle

from axformer_lightning.anatomy import HardAttention, LayerPlan
from axformer_lightning.plan import Plan
from axformer_lightning.report import draw_plan
from axformer_lightning.report.picture import BLOCK_REMOVED, KEPT, REMOVED, plan_figure

HEADS, NEURONS = 4, 60


def plan_of(*layers):
    return Plan("bert", len(layers), HEADS, NEURONS, layers)


def panels(plan):
    return plan_figure(plan).axes


def bars(axes, row, style):
    """The ranges that are drawn so in the row of a layer."""
    found = [bar for bar in axes.patches if isinstance(bar, Rectangle) and bar.get_y() < row < bar.get_y() + 1]
    return [
        (bar.get_x(), bar.get_x() + bar.get_width())
        for bar in found
        if same_color(bar.get_facecolor(), style["facecolor"]) and bar.get_hatch() == style.get("hatch")
    ]


def test_the_heads_of_each_layer_are_where_they_belong():
    heads, _ = panels(plan_of(LayerPlan(), LayerPlan(heads_removed=(0, 2))))
    assert bars(heads, 0, KEPT) == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert bars(heads, 1, KEPT) == [(1, 2), (3, 4)]
    assert bars(heads, 1, REMOVED) == [(0, 1), (2, 3)]


def test_neurons_are_drawn_by_their_exact_ranges():
    _, neurons = panels(plan_of(LayerPlan(neurons_removed=((1, 7), (33, 60))), LayerPlan()))
    assert bars(neurons, 0, REMOVED) == [(1, 7), (33, 60)]
    assert bars(neurons, 1, REMOVED) == []
    assert bars(neurons, 1, KEPT) == [(0, NEURONS)]


def test_a_removed_block_is_one_hatched_bar():
    heads, neurons = panels(plan_of(LayerPlan("removed"), LayerPlan(feed_forward="removed")))
    assert heads.patches[0].get_hatch()
    assert bars(heads, 0, BLOCK_REMOVED) == [(0, HEADS)]
    assert bars(neurons, 1, BLOCK_REMOVED) == [(0, NEURONS)]
    for axes, row in ((heads, 0), (neurons, 1)):
        assert bars(axes, row, KEPT) == bars(axes, row, REMOVED) == []
    assert len(bars(heads, 1, KEPT)) == HEADS
    assert len(bars(neurons, 0, KEPT)) == 1


def test_the_input_layer_is_at_the_bottom():
    for axes in panels(plan_of(*[LayerPlan()] * 5)):
        bottom, top = axes.get_ylim()
        assert bottom < 0 < 4 < top


def test_hard_layers_are_marked_with_their_k():
    layers = (LayerPlan(hard_attention=HardAttention(k=7)), LayerPlan(), LayerPlan(hard_attention=HardAttention(k=30)))
    heads, _ = panels(plan_of(*layers))
    assert [(text.get_position()[1], text.get_text()) for text in heads.texts] == [(0, "k=7"), (2, "k=30")]
    assert [line.get_ydata()[0] for line in heads.lines] == [0, 2]


def test_a_removed_block_does_not_attend_hard():
    heads, _ = panels(plan_of(LayerPlan("removed", hard_attention=HardAttention())))
    assert not heads.texts
    assert not heads.lines


@pytest.mark.parametrize(("num_groups", "starts"), [(4, [15, 30, 45]), (1, []), (7, [9, 18, 27, 36, 44, 52])])
def test_faint_lines_show_the_groups(num_groups, starts):
    _, neurons = plan_figure(plan_of(LayerPlan()), num_groups=num_groups).axes
    (lines,) = neurons.collections
    assert [segment[0][0] for segment in lines.get_segments()] == starts


def test_the_legend_explains_every_mark():
    figure = plan_figure(plan_of(LayerPlan()), title="a title")
    (legend,) = figure.legends
    words = [text.get_text() for text in legend.get_texts()]
    assert words[:3] == ["kept", "removed", "whole block removed"]
    assert words[3].startswith("hard attention")
    assert figure.get_suptitle() == "a title"


@pytest.mark.parametrize(("num_heads", "num_ticks"), [(1, 1), (16, 16), (17, 9), (64, 16)])
def test_the_axis_of_many_heads_stays_readable(num_heads, num_ticks):
    heads, _ = plan_figure(Plan("bert", 1, num_heads, 64, (LayerPlan(),))).axes
    labels = [label.get_text() for label in heads.get_xticklabels()]
    assert len(labels) == num_ticks
    assert [tick - 0.5 for tick in heads.get_xticks()] == [int(label) for label in labels]


@pytest.mark.slow
def test_the_file_is_a_png_and_taller_for_more_layers(tmp_path):
    for name, num_layers in (("small", 2), ("large", 12)):
        draw_plan(plan_of(*[LayerPlan()] * num_layers), tmp_path / name)
    small, large = imread(tmp_path / "small", format="png"), imread(str(tmp_path / "large"), format="png")
    assert large.shape[0] > small.shape[0]
    assert large.shape[1] == small.shape[1]


def test_the_same_plan_gives_the_same_file(tmp_path):
    for name in "ab":
        draw_plan(plan_of(LayerPlan(heads_removed=(1,))), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_removed_block_looks_unlike_one_without_parts(tmp_path):
    draw_plan(plan_of(LayerPlan("removed", (), "removed")), tmp_path / "block")
    draw_plan(plan_of(LayerPlan(heads_removed=(0, 1, 2, 3), neurons_removed=((0, NEURONS),))), tmp_path / "parts")
    assert (tmp_path / "block").read_bytes() != (tmp_path / "parts").read_bytes()


def test_more_groups_than_neurons_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"between 1 and the intermediate size 60, got 61"):
        draw_plan(plan_of(LayerPlan()), tmp_path / "plan.png", num_groups=61)
    assert not list(tmp_path.iterdir())


def test_few_neurons_are_drawn_without_a_number_of_groups(tmp_path):
    draw_plan(Plan("bert", 1, HEADS, 8, (LayerPlan(neurons_removed=((0, 3),)),)), tmp_path / "plan.png")
    assert (tmp_path / "plan.png").stat().st_size


@pytest.mark.slow
def test_single_neurons_between_removed_ones_are_seen(tmp_path):
    """A cut to a budget leaves such; edges of what is removed must not hide them."""

    def blue(layer):
        draw_plan(Plan("bert", 1, HEADS, 1536, (layer,)), tmp_path / "plan.png")
        image = imread(tmp_path / "plan.png")[:, 750:, :3]  # the right panel
        return (image[..., 2] - image[..., 0]).clip(0).sum()

    half = LayerPlan(neurons_removed=tuple((start, start + 1) for start in range(0, 1536, 2)))
    assert 0.4 < blue(half) / blue(LayerPlan()) < 0.6
