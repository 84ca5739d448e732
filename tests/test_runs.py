import json
import os

import pytest

from alexnet import tf
from runs import Checkpoints, make_run_folder, write_settings


def test_a_new_folder_each_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = {make_run_folder() for _ in range(3)}
    assert len(folders) == 3 and all(os.path.dirname(folder) == 'runs' for folder in folders)


def test_a_folder_with_content_is_refused_and_kept(tmp_path):
    (tmp_path / 'precious').write_text('x')
    with pytest.raises(ValueError, match='exists already'):
        make_run_folder(str(tmp_path))
    assert os.listdir(tmp_path) == ['precious']
    with pytest.raises(ValueError, match='exists already'):
        make_run_folder(str(tmp_path / 'precious'))
    assert os.path.isdir(make_run_folder(str(tmp_path / 'deep' / 'er')))


def test_settings_and_class_names(tmp_path):
    write_settings(str(tmp_path), {'seed': 3, 'train_layers': ('fc8',)}, ['Käfer', 'red ant'])
    settings = json.loads((tmp_path / 'settings.json').read_text(encoding='utf-8'))
    assert settings['seed'] == 3 and settings['train_layers'] == ['fc8']
    assert settings['versions']['tensorflow'] == tf.__version__
    assert (tmp_path / 'labels.txt').read_text(encoding='utf-8') == 'Käfer\nred ant\n'


def test_last_and_best_stay_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        frozen = tf.get_variable('frozen', initializer=1.0)
        trained = tf.get_variable('trained', initializer=0.0)
        step = trained.assign_add(1)
        checkpoints = Checkpoints(make_run_folder('run'), [frozen])
        session.run(tf.global_variables_initializer())
        graph.finalize()
        checkpoints.save_frozen(session)
        for epoch in range(1, 6):
            session.run(step)
            checkpoints.save(session, epoch, best=epoch in (1, 3))
        folder = tmp_path / 'run' / 'checkpoints'
        assert {name.split('.')[0] for name in os.listdir(folder)} == {'frozen', 'last', 'best', 'epoch-3', 'epoch-5'}
        assert (folder / 'best').read_text() == 'epoch-3\n' and (folder / 'last').read_text() == 'epoch-5\n'
        assert tf.train.load_checkpoint('run/checkpoints/epoch-3').get_tensor('trained') == 3
        assert not tf.train.load_checkpoint('run/checkpoints/epoch-3').has_tensor('frozen')
        assert tf.train.load_checkpoint('run/checkpoints/frozen').get_tensor('frozen') == 1
