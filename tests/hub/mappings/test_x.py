def test_good(good, compiled_of):
    g = good
    c = compiled_of(g)
    print(c.fields, c.grants, c.lineage)
    assert 0
