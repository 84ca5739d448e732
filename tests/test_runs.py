import json
import os

import pytest

from alexnet import tf
from runs import FORMAT, Checkpoints, check_run_dir, make_run_folder


def test_a_new_folder_each_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = {make_run_folder(None, {}, []) for _ in range(3)}
    assert len(folders) == 3 and all(os.path.dirname(folder) == 'runs' for folder in folders)


def test_a_folder_with_content_is_refused_and_kept(tmp_path):
    (tmp_path / 'precious').write_text('x')
    for path in (tmp_path, tmp_path / 'precious'):
        with pytest.raises(ValueError, match='exists already'):
            check_run_dir(str(path))
    for path in (tmp_path / 'precious' / 'run', tmp_path / 'precious' / 'deep' / 'er'):
        with pytest.raises(ValueError, match='precious is no folder that can be written to'):
            check_run_dir(str(path))
    assert os.listdir(tmp_path) == ['precious']
    check_run_dir(str(tmp_path / 'deep' / 'er'))


def test_of_two_runs_that_begin_in_one_folder_the_second_is_refused(tmp_path):
    assert make_run_folder(str(tmp_path / 'run'), {}, []) == str(tmp_path / 'run')
    with pytest.raises(ValueError, match='exists already'):
        make_run_folder(str(tmp_path / 'run'), {}, [])


def test_settings_and_class_names(tmp_path):
    make_run_folder(str(tmp_path / 'run'), {'seed': 3, 'train_layers': ('fc8',)}, ['Käfer', 'red ant'])
    settings = json.loads((tmp_path / 'run' / 'settings.json').read_text(encoding='utf-8'))
    assert settings['format'] == FORMAT and settings['seed'] == 3 and settings['train_layers'] == ['fc8']
    assert settings['versions']['tensorflow'] == tf.__version__
    assert (tmp_path / 'run' / 'labels.txt').read_text(encoding='utf-8') == 'Käfer\nred ant\n'


def small_run(folder, seconds_between):
    """Save 5 epochs of a variable that counts them, epochs 1 and 3 being the best; return the checkpoint folder."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        frozen = tf.get_variable('frozen', initializer=1.0)
        trained = tf.get_variable('trained', initializer=0.0)
        slot = tf.get_variable('slot', initializer=0.0)
        step = tf.group(trained.assign_add(1), slot.assign_add(10))
        checkpoints = Checkpoints([frozen], [trained])
        checkpoints.SECONDS_BETWEEN = seconds_between
        session.run(tf.global_variables_initializer())
        graph.finalize()
        checkpoints.begin(session, make_run_folder(str(folder), {}, []))
        for epoch in range(1, 6):
            session.run(step)
            checkpoints.save(session, epoch, is_best=epoch in (1, 3), is_final=epoch == 5)
            yield folder / 'checkpoints'


def read(folder, name):
    """Return {variable: value} of the checkpoint that the file `name` names."""
    reader = tf.train.load_checkpoint(str(folder / (folder / name).read_text().strip()))
    return {variable: reader.get_tensor(variable) for variable in reader.get_variable_to_shape_map()}


@pytest.mark.parametrize('seconds_between', [0, 1000])
def test_last_and_best_stay_and_nothing_else(tmp_path, seconds_between):
    folder = list(small_run(tmp_path / 'run', seconds_between))[-1]
    assert {name.split('.')[0] for name in os.listdir(folder)} == {'frozen', 'last', 'best', 'best-3', 'last-5'}
    assert read(folder, 'best') == {'trained': 3}
    assert read(folder, 'last') == {'trained': 5, 'slot': 50}
    assert tf.train.load_checkpoint(str(folder / 'frozen')).get_variable_to_shape_map() == {'frozen': []}


def test_long_epochs_are_all_written_short_ones_wait(tmp_path):
    written = [(folder / 'last').exists() and read(folder, 'last')['trained'] for folder in small_run(tmp_path / 'a', 0)]
    assert written == [1, 2, 3, 4, 5]
    written = [(folder / 'last').exists() for folder in small_run(tmp_path / 'b', 1000)]
    assert written == [False, False, False, False, True]
