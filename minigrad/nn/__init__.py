"""Modules, and what they are made of."""

from minigrad.nn import functional as functional
from minigrad.nn import init as init
from minigrad.nn.containers import ModuleDict as ModuleDict
from minigrad.nn.containers import ModuleList as ModuleList
from minigrad.nn.containers import Sequential as Sequential
from minigrad.nn.linear import Flatten as Flatten
from minigrad.nn.linear import Identity as Identity
from minigrad.nn.linear import Linear as Linear
from minigrad.nn.module import Module as Module
from minigrad.nn.parameter import Parameter as Parameter
