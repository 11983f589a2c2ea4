def test_x(simulate, night):
    simulate()
    n = night(count=30)
    card = n.settle()
    assert card.dispositions["validated"] == 30
    n.publish()
