"""The run folder: of a new run, or of one that goes on; its lock, its settings and its class names."""

import contextlib
import datetime
import json
import os
import platform

import cv2
import numpy as np
import tensorflow.compat.v1 as tf
from filelock import FileLock, Timeout

from console import new_file
from finished_run import FORMAT, read_settings

LOCK = '.lock'
