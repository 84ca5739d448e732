"""From a stranger's weight file to arrays, without TensorFlow."""
