"""From a list file to arrays, without TensorFlow."""
