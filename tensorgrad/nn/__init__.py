"""Networks of tensors: modules that hold parameters, layers, activations and losses."""

from .activations import ACTIVATIONS, linear, relu, sigmoid
from .layers import MLP, Layer, Neuron
from .losses import hinge_loss, mse_loss
from .module import Module

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "Layer",
    "Module",
    "Neuron",
    "hinge_loss",
    "linear",
    "mse_loss",
    "relu",
    "sigmoid",
]
