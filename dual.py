"""fc6 in its dual form: with few images, steps of gradient descent or momentum without fc6's 38 million weights.

The gradient of a layer's weights is inputsᵀ · upstream. What such steps add to the first weights W is therefore Xᵀ · C,
where X, [images, 9216], is what fc6 sees of all training images, and C, [images, 4096], their coefficients, whose
gradient is upstream, in the rows of a step's images. What fc6 computes, x · W + (x · Xᵀ) · C, takes one small product, as
X · W and X · Xᵀ are computed once: the dual representation (Bishop, "Pattern Recognition and Machine Learning", 2006,
6.1). Training is the same but for rounding. Adam is left out, as it divides the step of each weight by that weight's
past, which is no sum over images; and so is weight decay, which also shrinks W.
"""

import numpy as np

from alexnet import AlexNet, set_values, tf
from bottlenecks import StoredBatches, disk_share, feature_output
from checkpoints import Checkpoints, copy_of
from feature_store import lack_of_room
from lists import raise_all
from weights import LAYER_SHAPES

LAYER = 'fc6'
INPUTS = LAYER_SHAPES[LAYER][0]
MOST_IMAGES = 4096  # of each list; with more, their products take many epochs to win back what they cost
FEWEST_EPOCHS = 4   # times 2 with mirrored images; in fewer, a run does not win back what its start and end cost
FINGERPRINT = 8     # outputs of fc6, with its first weights, by which an image is known again


def choose_counts(plan, is_one_device, stored):
    """Return (training images, validation images), mirrored ones too, if fc6 is to have its dual form, or None.

    stored: the settings of a run that goes on from a checkpoint, or None. Raises ValueError if dual_fc6 is on where that
    can't be.
    """
    settings, data = plan.settings, plan.data
    views = 1 + settings.horizontal_flip
    counts = len(data.train.paths) * views, len(data.val.paths)
    obstacle = next((reason for reason, holds in obstacles(plan, counts, is_one_device, stored) if holds), None)
    if obstacle and settings.dual_fc6 == 'on':
        raise ValueError(f'dual_fc6 is on, but {obstacle}')
    if obstacle and stored and stored.get('is_dual'):
        print(f'{LAYER} goes on without its dual form, for good: {obstacle}')
    is_worth_it = stored or settings.dual_fc6 == 'on' or (
        settings.num_epochs >= FEWEST_EPOCHS * views
        and not lack_of_room(settings.cache_dir, sum(counts), INPUTS, disk_share(settings)))
    return counts if is_worth_it and not obstacle else None


def obstacles(plan, counts, is_one_device, stored):
    """Yield (what speaks against the dual form, whether it is so)."""
    settings = plan.settings
    yield 'dual_fc6 is off', settings.dual_fc6 == 'off'
    yield f'{LAYER} is not the first layer that is trained', feature_output(plan.trained) != 'pool5'
    yield f'optimizer is {settings.optimizer}, not momentum or sgd', settings.optimizer == 'adam'
    yield f'weight_decay is {settings.weight_decay}, not 0', settings.weight_decay
    yield f'precision is {settings.precision}', settings.precision != 'float32'
    yield 'cache_features is off', settings.cache_features == 'off'
    yield 'random_crop cuts other pixels in each epoch', settings.random_crop
    yield 'the run is spread over several devices', not is_one_device
    yield 'it is for CPUs, and here is a GPU', tf.config.list_physical_devices('GPU')
    yield (f'there are {counts[0]:,} training images, mirrored ones too, and {counts[1]:,} of validation, and it takes '
           f'{MOST_IMAGES:,} of each at most'), max(counts) > MOST_IMAGES
    if stored:
        yield 'the run has begun, or gone on, without it: set it to auto', not stored.get('is_dual')
        yield 'horizontal_flip is not what it was', stored.get('horizontal_flip') != settings.horizontal_flip


class DualAlexNet(AlexNet):
    """An AlexNet whose fc6 is in its dual form: fed numbers of images, it computes and learns fc6 to fc8.

    counts: (training images, validation images), mirrored ones too, as choose_counts returns them. numbers: int64 [n], to
    be fed in place of images; those of validation come after those of training. use_stored() has to be called first. The
    variable with fc6's weights is as old as the last checkpoint: DualCheckpoints brings it up to date.
    """

    def __init__(self, *arguments, counts, **options):
        self.counts = counts
        super().__init__(*arguments, **options)
        weights, biases = self.variables[LAYER]
        self.learnt = {**self.variables, LAYER: (self.coefficients, biases)}
        self.features = tf.placeholder(tf.float32, [None, INPUTS], 'features')
        self.keep_first = self.first_weights.assign(weights).op
        self.compute = tf.group(
            self.first_outputs.assign(tf.matmul(self.features, self.first_weights)),
            self.products.assign(tf.matmul(self.features, self.features[:counts[0]], transpose_b=True)))
        self.present_fingerprints = self.first_outputs[:counts[0], :FINGERPRINT]

    def product(self, layer, x, weights):
        """Return x · weights; of fc6, whatever x is, that of the images `numbers`."""
        if layer != LAYER:
            return super().product(layer, x, weights)
        self.numbers = tf.placeholder(tf.int64, [None], 'numbers')
        self.add_variables(*weights.shape.as_list())
        return dual_product(tf.convert_to_tensor(self.coefficients), tf.gather(self.first_outputs, self.numbers),
                            tf.gather(self.products, self.numbers), self.numbers)

    def add_variables(self, inputs, units):
        """Add the variables of the dual form; those that follow from features are in no checkpoint."""
        with tf.variable_scope(LAYER):
            zeros = {'initializer': tf.zeros_initializer()}
            self.coefficients = tf.get_variable('coefficients', [self.counts[0], units], **zeros)
            self.first_weights = tf.get_variable('first_weights', [inputs, units], trainable=False, **zeros)
            self.fingerprints = tf.get_variable('fingerprints', [self.counts[0], FINGERPRINT], trainable=False, **zeros)
        self.first_outputs, self.products = (
            tf.Variable(tf.zeros([sum(self.counts), columns]), trainable=False, collections=[])
            for columns in (units, self.counts[0]))

    def as_weights(self, coefficients):
        """Return what coefficients add to the weights, Xᵀ · C; `features` must be fed, those of training alone."""
        return tf.matmul(self.features, coefficients, transpose_a=True)

    def load_initial_weights(self, session):
        """Give all layers but the skipped ones the values of the weight file; what fc6 has then are its first weights."""
        super().load_initial_weights(session)
        session.run(self.keep_first)

    def use_stored(self, session, sources):
        """Compute what follows from stored features; return sources that feed numbers of images instead.

        sources: [(tensor to feed, batches for it)] of training and of validation. Raises ValueError if their features
        are not stored, or are not those that the run began with.
        """
        if any(tensor is self.x for tensor, _ in sources):
            raise ValueError('features can not be stored, and the dual form of fc6 needs them: set dual_fc6 to off')
        self.train, val = [batches for _, batches in sources]
        features = [batches.all().reshape(-1, INPUTS) for batches in (self.train, val)]
        session.run(self.compute, {self.features: np.concatenate(features)})
        self.check_images(session)
        print(f'{LAYER} is trained in its dual form: products of {self.counts[0]:,} images stand for {INPUTS:,} inputs')
        numbers = np.arange(sum(self.counts))
        return [(self.numbers, StoredBatches(batches.generator, numbers, part.reshape(batches.rows.shape)))
                for part, batches in zip(np.split(numbers, [self.counts[0]]), (self.train, val))]

    def run_on_training(self, session, operation):
        """Run an operation that needs the features of all training images."""
        session.run(operation, {self.features: self.train.all().reshape(-1, INPUTS)})

    def check_images(self, session):
        """Raise ValueError if training images are not those that the run began with: coefficients belong to images."""
        before, now = session.run([self.fingerprints, self.present_fingerprints])
        if not before.any():
            set_values(session, [self.fingerprints], [now])
            return
        file, paths, _, lines = self.train.generator.image_list
        differs = np.abs(now - before).max(1) > 1e-3 * np.abs(before).max(1)
        changed = np.unique(np.flatnonzero(differs) % len(paths))
        raise_all([(lines[n], f'{file}:{lines[n]}: {paths[n]}: the run began with another image here') for n in changed],
                  'To go on, restore images and list, or set dual_fc6 to off')


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
    """Checkpoints of a DualAlexNet: in each, fc6's weights are up to date, in `last` their velocity, too.

    Whatever reads a run finds what it looks for, and the run can go on without the dual form. `frozen` holds, besides,
    fc6's first weights.
    """

    def __init__(self, frozen, trained, model):
        self.model, self.weights = model, model.variables[LAYER][0]
        now = [self.weights.assign(model.first_weights + model.as_weights(model.coefficients))]
        slot_name = f'{model.coefficients.op.name}/Momentum'
        for slot in [variable for variable in tf.global_variables() if variable.op.name == slot_name]:  # sgd has none
            velocity = tf.get_variable(f'{self.weights.op.name}/Momentum', self.weights.shape, trainable=False,
                                       initializer=tf.zeros_initializer())
            now.append(velocity.assign(model.as_weights(slot)))
        super().__init__([*frozen, model.first_weights, model.fingerprints], trained)
        kept = self.best[model.coefficients.op.name]
        best = self.best[self.weights.op.name].assign(model.first_weights + model.as_weights(kept))
        self.updates = {'last': tf.group(now), 'best': best.op}

    def copies(self, trained):
        """Return {name of variable: variable for its best values}, fc6's weights among them."""
        return {**super().copies(trained), self.weights.op.name: copy_of(self.weights)}

    def refresh(self, session, kind):
        """Bring fc6's weights up to date, those of now or of the best epoch."""
        self.model.run_on_training(session, self.updates[kind])
