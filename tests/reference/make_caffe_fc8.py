"""Lets Caffe compute fc8 of a full-size AlexNet, for tests/weight_files/test_full_size.py.

    pip install kendryte-caffe==1.0.0.20210829 'protobuf<3.21'        (Python 3.8)
    python -m tests.reference.make_caffe_fc8 DEPLOY_PROTOTXT OUT.caffemodel

DEPLOY_PROTOTXT is Caffe's models/bvlc_alexnet/deploy.prototxt. Caffe loads the file that
tests/caffe_files.py writes, which shows that it is a file for Caffe. fc8 goes to caffe_fc8.npy
beside this script; OUT.caffemodel (244 MB) is the same network as Caffe saves it.
"""

import os
import sys
import tempfile

import caffe
import numpy as np

from tests.caffe_files import caffemodel, drawn_images, drawn_layers

TARGET = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'caffe_fc8.npy')


def main(prototxt, saved):
    """Run Caffe on the drawn network and images; write both files."""
    with tempfile.NamedTemporaryFile(suffix='.caffemodel') as file:
        file.write(caffemodel(drawn_layers(), v1=True, old_shape=True))
        file.flush()
        net = caffe.Net(prototxt, caffe.TEST, weights=file.name)
    images = drawn_images()
    net.blobs['data'].reshape(*images.shape)
    net.blobs['data'].data[...] = images
    net.forward()
    net.save(saved)
    np.save(TARGET, net.blobs['fc8'].data)


if __name__ == '__main__':
    main(*sys.argv[1:])
