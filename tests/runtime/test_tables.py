import pytest

from runtime.tables import format_table


def test_columns_are_as_wide_as_their_widest_cell():
    assert format_table([('layer', 'count', 'note'), ('fc8', '12,000', '')], 'lr') == [
        'layer   count  note',
        'fc8    12,000']


def test_min_widths_keep_single_lines_under_each_other():
    lines = [format_table([row], 'rr', (7, 10))[0] for row in (('epoch', 'loss'), ('1/2', '0.5'))]
    assert lines == ['  epoch        loss', '    1/2         0.5']


def test_no_rows_are_no_lines_and_uneven_rows_an_error():
    assert format_table([]) == []
    with pytest.raises(ValueError):
        format_table([('a', 'b'), ('c',)])
