import numpy as np
import pytest

from latency.accuracy import accuracy


@pytest.mark.parametrize("measured", [[2.0], [2.0, 2.0]])
def test_without_an_order_the_figures_are_finite(measured):
    card = accuracy(np.full(len(measured), 3.0), np.array(measured))
    assert np.isfinite(list(card.to_dict().values())).all()
    assert card.kendall_tau == 0.0


def test_accuracy_of_known_errors():
    measured = np.array([1.0, 2.0, 4.0, 8.0])
    card = accuracy(measured * [1.04, 0.96, 1.08, 1.20], measured)
    assert card.models == 4
    assert card.mape_percent == pytest.approx((4 + 4 + 8 + 20) / 4)
    assert (card.within_5_percent, card.within_10_percent) == (0.5, 0.75)
    assert card.bias_percent == pytest.approx(6.0)
    assert card.kendall_tau == pytest.approx(1.0)
