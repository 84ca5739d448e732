"""Lets Caffe compute fc8 of full-size networks, for tests/weight_files/test_full_size.py.

    pip install kendryte-caffe==1.0.0.20210829 'protobuf<3.21'        (Python 3.8)
    python -m tests.reference.make_caffe_fc8 alexnet DEPLOY_PROTOTXT OUT.caffemodel
    python -m tests.reference.make_caffe_fc8 caffenet DEPLOY_PROTOTXT OUT.caffemodel

DEPLOY_PROTOTXT is deploy.prototxt of Caffe's models/bvlc_alexnet or bvlc_reference_caffenet. Caffe
loads the file that tests/caffe_files.py writes, which shows that it is a file for Caffe. fc8 goes
to caffe_fc8.npy or caffenet_fc8.npy beside this script; OUT.caffemodel (244 MB) is the same network
as Caffe saves it.
"""

import os
import sys
import tempfile

import caffe
import numpy as np

from tests.caffe_files import caffemodel, drawn_images, drawn_layers

TARGETS = {'alexnet': 'caffe_fc8.npy', 'caffenet': 'caffenet_fc8.npy'}


def main(architecture, prototxt, saved):
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
    folder = os.path.dirname(os.path.abspath(__file__))
    np.save(os.path.join(folder, TARGETS[architecture]), net.blobs['fc8'].data)


if __name__ == '__main__':
    main(*sys.argv[1:])
