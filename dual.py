"""fc6 in its dual form: with few images, steps of gradient descent or momentum without fc6's 38 million weights.

The gradient of a layer's weights is inputsᵀ · upstream. What such steps add to the first weights W is therefore Xᵀ · C,
where X, [images, 9216], is what fc6 sees of all training images, and C, [images, 4096], their coefficients: a step
changes the rows of its own images by upstream, as it would change the weights by inputsᵀ · upstream. What fc6 computes,
x · W + (x · Xᵀ) · C, takes one small product, as X · W and X · Xᵀ are computed once: the dual representation (Bishop,
"Pattern Recognition and Machine Learning", 2006, 6.1). Training is the same but for rounding. Adam divides the step of
each weight by that weight's past, and weight decay shrinks each weight: coefficients of images can say neither.
"""

import os

import numpy as np

from alexnet import AlexNet, set_values, tf
from bottlenecks import StoredBatches, disk_share, feature_output
from checkpoints import Checkpoints, copy_of
from feature_store import lack_of_room
from lists import raise_all

LAYER, INPUTS = 'fc6', 6 * 6 * 256
MOST_ROWS = 4096  # of training and of validation; with more, products of images take many epochs to win back their cost
FEWEST_EPOCHS = 4  # times 2 with mirrored images; in fewer, a run does not win back what its start and end cost


def choose_rows(settings, data, trained, is_one_device, stored):
    """Return (training images, validation images), mirrored ones too, if fc6 is to have its dual form, or None.

    trained: names of the layers that a step changes. stored: the settings of a run that goes on, or None. Raises
    ValueError if dual_fc6 is on where that can't be.
    """
    if settings.dual_fc6 == 'off':
        return None
    views = 1 + settings.horizontal_flip
    if settings.dual_fc6 == 'auto' and not stored and settings.num_epochs < FEWEST_EPOCHS * views:
        return None
    rows = len(data.train.paths) * views, len(data.val.paths)
    found = (reason for reason, holds in obstacles(settings, rows, trained, is_one_device, stored) if holds)
    obstacle = next(found, None)
    if obstacle and settings.dual_fc6 == 'on':
        raise ValueError(f'dual_fc6 is on, but {obstacle}')
    return None if obstacle else rows


def obstacles(settings, rows, trained, is_one_device, stored):
    """Yield (what speaks against the dual form, whether it is so)."""
    yield f'{LAYER} is not the first layer that is trained', feature_output(trained) != 'pool5'
    yield f'optimizer is {settings.optimizer}, not momentum or sgd', settings.optimizer == 'adam'
    yield f'weight_decay is {settings.weight_decay}, not 0', settings.weight_decay
    yield f'precision is {settings.precision}', settings.precision != 'float32'
    yield 'cache_features is off', settings.cache_features == 'off'
    yield 'random_crop cuts other pixels in each epoch', settings.random_crop
    yield 'the run is spread over several devices', not is_one_device
    yield f'{max(rows):,} images, mirrored ones too, are more than {MOST_ROWS:,}', max(rows) > MOST_ROWS
    if stored:
        yield 'the run has begun, or gone on, without it', not stored.get('is_dual')
        yield 'horizontal_flip is not what it was', stored.get('horizontal_flip') != settings.horizontal_flip
    lack = lack_of_room(existing_parent(settings.cache_dir), sum(rows), INPUTS, disk_share(settings))
    yield lack, lack


def existing_parent(folder):
    """Return the folder, or the innermost one that is there of those that it is to be in."""
    folder = os.path.abspath(folder)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


class DualAlexNet(AlexNet):
    """An AlexNet whose fc6 is in its dual form: fed numbers of images, it computes and learns fc6 to fc8.

    rows: (training images, validation images), mirrored ones too, as choose_rows returns them. numbers: int64 [n], to
    be fed in place of images; those of validation come after those of training. take() has to be called first. The
    variable with fc6's weights is as old as the last checkpoint: DualCheckpoints brings it up to date.
    """

    def __init__(self, *arguments, rows, **options):
        self.rows, self.numbers, self.sources = rows, None, None
        super().__init__(*arguments, **options)  # all of it: its variables are to have the same first values
        weights, biases = self.variables[LAYER]
        self.numbers = tf.placeholder(tf.int64, [None], 'numbers')
        self.features = tf.placeholder(tf.float32, [None, INPUTS], 'features')
        self.add_variables(*weights.shape.as_list())
        self.learnt = {**self.variables, LAYER: (self.coefficients, biases)}
        self.keep_first = self.first_weights.assign(weights)
        self.compute_products = self.products.assign(
            tf.matmul(self.features, self.features[:rows[0]], transpose_b=True))
        self.compute_outputs = self.outputs_with(self.first_weights)
        self.present_squares = tf.linalg.diag_part(self.products[:rows[0]])
        with tf.variable_scope('', reuse=True):
            self.create_classifier(self.outputs['pool5'])

    def add_variables(self, inputs, units):
        """Add the variables of the dual form; what follows from features is in no checkpoint."""
        with tf.variable_scope(LAYER):
            zeros = {'initializer': tf.zeros_initializer()}
            self.coefficients = tf.get_variable('coefficients', [self.rows[0], units], **zeros)
            self.first_weights = tf.get_variable('first_weights', [inputs, units], trainable=False, **zeros)
            self.squares = tf.get_variable('squares', [self.rows[0]], trainable=False, **zeros)  # of the norms in X
        self.first_outputs, self.products = (
            tf.Variable(tf.zeros([sum(self.rows), columns]), trainable=False, collections=[])
            for columns in (units, self.rows[0]))

    def product(self, layer, x, weights):
        """Return x · weights; of fc6, that of the images `numbers`."""
        if layer != LAYER or self.numbers is None:
            return super().product(layer, x, weights)
        return dual_product(tf.convert_to_tensor(self.coefficients), tf.gather(self.first_outputs, self.numbers),
                            tf.gather(self.products, self.numbers), self.numbers)

    def outputs_with(self, weights):
        """Return the operation that computes fc6's outputs with these weights, before what coefficients add."""
        return self.first_outputs.assign(tf.matmul(self.features, weights)).op

    def in_weights(self, coefficients):
        """Return what coefficients say about weights, Xᵀ · C."""
        return tf.matmul(self.features, coefficients, transpose_a=True)

    def twin(self, tensor, other):
        """Return the tensor: there is one device."""
        return tensor

    def load_initial_weights(self, session):
        """Give all layers but the skipped ones the values of the weight file; whatever fc6 has now is its first."""
        super().load_initial_weights(session)
        session.run(self.keep_first)

    def take(self, session, sources):
        """Compute what follows from stored features; return sources that feed numbers of images instead.

        sources: [(tensor to feed, batches for it)] of training and of validation. Raises ValueError if their features
        are not stored, or are not those that the run began with.
        """
        if any(tensor is self.x for tensor, _ in sources):
            raise ValueError('features can not be stored, and the dual form of fc6 needs them: set dual_fc6 to off')
        self.sources = [batches for _, batches in sources]
        self.run(session, self.compute_outputs, self.compute_products)
        self.check_images(session)
        print(f'{LAYER} is trained in its dual form: products of {self.rows[0]:,} images stand for {INPUTS:,} inputs')
        numbers = np.arange(sum(self.rows))
        return [(self.numbers, StoredBatches(batches.generator, numbers, part.reshape(batches.rows.shape)))
                for part, batches in zip(np.split(numbers, [self.rows[0]]), self.sources)]

    def run(self, session, *operations, of_training=False):
        """Run operations on the features of all images, or of those of training: what in_weights needs."""
        features = [batches.all() for batches in self.sources[:1 if of_training else 2]]
        session.run(operations, {self.features: np.concatenate(features).reshape(-1, INPUTS)})

    def check_images(self, session):
        """Raise ValueError if training images are not those that the run began with: coefficients belong to images."""
        before, squares = session.run([self.squares, self.present_squares])
        if not before.any():
            set_values(session, [self.squares], [squares])
            return
        file, paths, _, lines = self.sources[0].generator.image_list
        changed = np.unique(np.flatnonzero(~np.isclose(before, squares, rtol=1e-3)) % len(paths))
        raise_all([(lines[n], f'{file}:{lines[n]}: {paths[n]}: the run began with another image') for n in changed],
                  'To go on with these images, set dual_fc6 to off')


@tf.custom_gradient
def dual_product(coefficients, first_outputs, products, numbers):
    """Return first_outputs + products · coefficients, float32 [n, units].

    coefficients: float32 [images, units]. products: float32 [n, images], of the inputs of n images with those of all.
    numbers: int64 [n], which images these n are. What is returned as gradient of the coefficients is what becomes the
    gradient of the weights, by Xᵀ: upstream, in the rows of these images.
    """
    def gradient(upstream):
        return tf.scatter_nd(numbers[:, None], upstream, coefficients.shape.as_list()), None, None, None
    return first_outputs + tf.matmul(products, coefficients), gradient


class DualCheckpoints(Checkpoints):
    """Checkpoints of a DualAlexNet: in each, fc6's weights are up to date, and so is their velocity.

    Whatever reads a run finds what it looks for, and the run can go on without the dual form.
    """

    def __init__(self, frozen, trained, model):
        self.model, weights = model, model.variables[LAYER][0]
        self.update = [weights.assign(model.first_weights + model.in_weights(model.coefficients))]
        for slot in tf.global_variables():
            if slot.op.name == f'{model.coefficients.op.name}/Momentum':
                velocity = tf.get_variable(f'{weights.op.name}/Momentum', weights.shape, trainable=False,
                                           initializer=tf.zeros_initializer())
                self.update.append(velocity.assign(model.in_weights(slot)))
        super().__init__([*frozen, model.first_weights, model.squares], trained)
        coefficients = self.best.pop(model.coefficients.op.name)
        best = self.best[weights.op.name] = copy_of(weights)
        self.update_best = best.assign(model.first_weights + model.in_weights(coefficients)).op
        self.show_outputs = model.outputs_with(best)
        self.use_best = tf.group(model.coefficients.assign(tf.zeros_like(model.coefficients)), [
            variable.assign(self.best[variable.op.name]) for variable in trained if variable is not model.coefficients])
        self.savers['best'] = tf.train.Saver(self.best, max_to_keep=0)

    def show_best(self, session):
        super().show_best(session)
        self.model.run(session, self.show_outputs)

    def restore_last(self, session):
        super().restore_last(session)
        if self.model.sources:
            self.model.run(session, self.model.compute_outputs)

    def save(self, session):
        if self.progress.name != self.written:
            self.model.run(session, *self.update, of_training=True)
        super().save(session)

    def write_best(self, session):
        if self.best_epoch != self.written_best:
            self.model.run(session, self.update_best, of_training=True)
        super().write_best(session)
