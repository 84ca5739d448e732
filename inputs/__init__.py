"""From a list file to arrays, without TensorFlow."""

import os

os.environ.setdefault('OPENCV_LOG_LEVEL', 'OFF')  # read when cv2 is loaded; errors here say more
