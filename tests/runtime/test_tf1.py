import pytest

from runtime.tf1 import error_line, tf


def test_the_line_of_an_error_says_what_happened_not_where(tmp_path):
    (tmp_path / 'file').touch()
    with tf.Graph().as_default(), tf.Session() as session:
        save = tf.raw_ops.SaveV2(prefix=f'{tmp_path}/file/x', tensor_names=['a'],
                                 shape_and_slices=[''], tensors=[tf.constant(1)])
        with pytest.raises(tf.errors.OpError) as caught:
            session.run(save)
    assert caught.value.message.startswith('Graph execution error:')
    assert 'Not a directory' in error_line(caught.value)
    assert error_line(ValueError('one\ntwo')) == 'one'
