from axformer_lightning.report import draw_pareto


def test_a_model_without_an_encoder_is_left_out(tmp_path):
    dense, cut = ({"encoder_size": size, "search_loss": 0.4, "metrics": {"accuracy": 0.8}} for size in (1.0, 0.5))
    pictures = []
    for points in ([dense, cut], [dense, cut, {**cut, "encoder_size": 0.0}]):
        draw_pareto(points, tmp_path / "pareto.png", metric="accuracy")
        pictures.append((tmp_path / "pareto.png").read_bytes())
    assert pictures[0] == pictures[1]
