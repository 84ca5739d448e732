"""Has Caffe itself compute fc8 of a full-size AlexNet with drawn weights, for tests/test_caffemodel.py.

    pip install kendryte-caffe==1.0.0.20210829 'protobuf<3.21'        (Python 3.8)
    python tests/reference/make_caffe_fc8.py DEPLOY_PROTOTXT OUT.caffemodel

DEPLOY_PROTOTXT is models/bvlc_alexnet/deploy.prototxt of Caffe. Caffe loads the file that tests/caffe_files.py writes,
so that this is known to be a file for Caffe; fc8 goes to caffe_fc8.npy beside this script, and OUT.caffemodel (244 MB)
is the same network as Caffe saves it.
"""

import os
import sys
import tempfile

import caffe
import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
from tests.caffe_files import caffemodel, drawn_images, drawn_layers


def main(prototxt, saved):
    with tempfile.NamedTemporaryFile(suffix='.caffemodel') as file:
        file.write(caffemodel(drawn_layers(), v1=True, old_shape=True))
        file.flush()
        net = caffe.Net(prototxt, caffe.TEST, weights=file.name)
    images = drawn_images()
    net.blobs['data'].reshape(*images.shape)
    net.blobs['data'].data[...] = images
    net.forward()
    net.save(saved)
    np.save(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'caffe_fc8.npy'), net.blobs['fc8'].data)


main(*sys.argv[1:])
