"""Changes of shape, and joining."""

import numpy as np

from .row import *

ROWS = [
    # shapes
    Op("reshape", lambda x: np.reshape(x, (3, 2)), reals, shapes=[(6,), (2, 3), (1, 2, 3)]),
    Op("reshape shape=", lambda x: np.reshape(x, shape=(-1,)), reals),
    Op(".reshape(-1)", lambda x: x.reshape(-1), reals, shapes=[(), (3,), (2, 3)]),
    Op(".reshape(1, -1)", lambda x: x.reshape(1, -1), reals, shapes=[(), (3,), (2, 3)]),
    Op("ravel", np.ravel, reals),
    Op("expand_dims", lambda x: np.expand_dims(x, -1), reals),
    Op("expand_dims axes", lambda x: np.expand_dims(x, axis=(0, 2)), reals, shapes=VECTORS),
    Op("squeeze", np.squeeze, reals, shapes=[(), (1,), (3,), (1, 2, 1)]),
    Op("squeeze axis", lambda x: np.squeeze(x, axis=-1), reals, shapes=[(1,), (2, 1), (0, 1)]),
    Op("broadcast_to", lambda x: np.broadcast_to(x, (2, 3)), reals, shapes=[(), (3,), (2, 1)]),
    Op("broadcast_to 0", lambda x: np.broadcast_to(x, shape=(0, 3)), reals, shapes=[(3,), (1, 1)]),
    Op("transpose", np.transpose, reals),
    Op("transpose axes", lambda x: np.transpose(x, (1, -1, 0)), reals, shapes=CUBES),
    Op("transpose axes=", lambda x: np.transpose(x, axes=[2, 0, 1]), reals, shapes=CUBES),
    Op(".transpose()", lambda x: x.transpose(), reals),
    Op(".transpose(2, 0, 1)", lambda x: x.transpose(2, 0, 1), reals, shapes=CUBES),
    Op(".T", lambda x: x.T, reals),
    Op(".mT", lambda x: x.mT, reals, shapes=[*MATRICES, *CUBES]),
    Op("matrix_transpose", np.matrix_transpose, reals, shapes=MATRICES),
    Op("swapaxes", lambda x: np.swapaxes(x, 0, -1), reals, shapes=[*VECTORS, *MATRICES, *CUBES]),
    Op("swapaxes axis1=", lambda x: np.swapaxes(x, axis1=0, axis2=1), reals, shapes=CUBES),
    Op("moveaxis", lambda x: np.moveaxis(x, 0, -1), reals, shapes=[*VECTORS, *MATRICES, *CUBES]),
    Op("moveaxis axes", lambda x: np.moveaxis(x, [0, 2], [-1, 0]), reals, shapes=CUBES),
    Op("moveaxis source=", lambda x: np.moveaxis(x, source=0, destination=1), reals, shapes=CUBES),
    # joining
    Op("concatenate", lambda x, y: np.concatenate([x, y]), reals, reals,
       shapes=[((2,), (3,)), ((2, 3), (1, 3)), ((0, 2), (1, 2))]),
    Op("concatenate axis -1", lambda x, y: np.concatenate((x, y), axis=-1), reals, reals,
       shapes=[((2,), (3,)), ((2, 1), (2, 3)), ((2, 2, 1), (2, 2, 0))]),
    Op("concatenate axis 1", lambda x, y, z: np.concatenate([x, y, z], 1), reals, reals, reals,
       shapes=[((2, 1), (2, 2), (2, 1)), ((1, 2, 2), (1, 1, 2), (1, 0, 2))]),
    Op("concatenate axis None", lambda x, y: np.concatenate([x, y], axis=None), reals, reals),
    Op("concatenate [x, x]", lambda x: np.concatenate([x, x]), reals, shapes=[*VECTORS, *MATRICES]),
    Op("concatenate of one", np.concatenate, reals, shapes=MATRICES),
    Op("stack", lambda x, y: np.stack([x, y]), reals, reals,
       shapes=[((), ()), ((3,), (3,)), ((2, 3), (2, 3)), ((0,), (0,))]),
    Op("stack axis 1", lambda x, y, z: np.stack((x, y, z), axis=1), reals, reals, reals,
       shapes=[((2,),) * 3, ((2, 3),) * 3]),
    Op("stack axis -1", lambda x: np.stack([x, 2 * x, x], axis=-1), reals),
    Op("stack with a number", lambda x: np.stack([x, 1.5]), reals, shapes=[()]),
]  # fmt: skip
